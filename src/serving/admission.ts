import { err, ok, type Result } from '../base/result.js';
import type { KeyStateQueries, KeyStore } from '../keystate/types.js';
import { authenticationFailed, type XksError, xksError } from '../xks/errors.js';
import { type Known, unknownHere } from './key-lookup.js';
import type { StateFreshness } from './state-freshness.js';

/** A request that has found its key store. */
export interface Opened {
  /** As of then; what comes later asks anew (`known`). */
  readonly state: KeyStateQueries;
  readonly keyStore: KeyStore;
}

/**
 * What key state and its age let a serving process say and do: at admission, and again right before an answer is
 * written (replication.md, _A stale node must not lie_ and _The kill switch contract_). Reads nothing but what it is
 * given, so that the simulator runs it too.
 */
export class Admission {
  readonly #state: () => KeyStateQueries | null;
  readonly #freshness: StateFreshness;

  /** @param state key state as of now, `null` before any was applied. */
  constructor(state: () => KeyStateQueries | null, freshness: StateFreshness) {
    this.#state = state;
    this.#freshness = freshness;
  }

  /** X-U4: signed or not. */
  open(uriPathPrefix: string): Result<Opened, XksError> {
    const state = this.#state();
    if (state === null) return err(noStateYet);
    if (!this.#freshness.standing.mayServe) return err(mayNotServe);
    const keyStore = state.keyStoreByPrefix(uriPathPrefix);
    return keyStore === null
      ? err(unknownHere(this.#freshness.isCurrent(), noSuchPath))
      : ok({ state, keyStore });
  }

  /** The answer to a request that is not authentic. @param accessKeyId that it names; `null` for none, or when that one's secret is at hand. */
  notAuthentic({ state }: Opened, accessKeyId: string | null): XksError {
    const isUnknown = accessKeyId !== null && state.credential(accessKeyId) === null;
    return unknownHere(!isUnknown || this.#freshness.isCurrent(), authenticationFailed);
  }

  /** Key state as of now; that of `opened` where a link that is being made anew has left none. */
  known({ state }: Opened): Known {
    return new KnownNow(this.#state() ?? state, this.#freshness);
  }

  /** A key store whose rule is to stop in isolation, on a node that has heard of no quorum for too long. */
  isolationFault({ state, keyStore: { name } }: Opened): XksError | null {
    const keyStore = (this.#state() ?? state).keyStore(name);
    return keyStore === null || this.#freshness.permits(keyStore) ? null : isolated;
  }

  /** Whether an answer made with a key may leave, asked right before it does: the promise counts from there. */
  leavingFault(opened: Opened, accessKeyId: string): XksError | null {
    const fault = this.isolationFault(opened);
    if (fault !== null) return fault;
    // A credential that was retired while the HSM worked gets nothing either.
    const credential = this.#state()?.credential(accessKeyId) ?? null;
    return credential?.keyStore === opened.keyStore.name ? null : authenticationFailed;
  }
}

class KnownNow implements Known {
  readonly state: KeyStateQueries;
  readonly #freshness: StateFreshness;

  constructor(state: KeyStateQueries, freshness: StateFreshness) {
    this.state = state;
    this.#freshness = freshness;
  }

  get isCurrent(): boolean {
    return this.#freshness.isCurrent();
  }
}

export const noSuchPath = xksError('InvalidUriPathException', 'Nothing is served under this path.');

const noStateYet = xksError(
  'DependencyTimeoutException',
  'This node has just started and does not know its key stores yet.',
);

export const mayNotServe = xksError(
  'DependencyTimeoutException',
  'This node does not serve: its key state is not known to be that of the cluster. Its status says why.',
);

const isolated = xksError(
  'DependencyTimeoutException',
  'This node is cut off from the others, and this key store is set to stop then.',
);
