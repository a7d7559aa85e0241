import { wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { err, type Result } from '../base/result.js';
import type {
  DecryptOperation,
  EncryptOperation,
  EncryptResult,
  HsmCrypto,
  HsmFailure,
  HsmRoute,
} from '../hsm/types.js';
import type { Admission, Opened } from './admission.js';
import type { DeadlineGuard } from './deadline-guard.js';
import type { IvAccounts } from './iv-accounts.js';
import type { Known } from './key-lookup.js';
import type { RequestTrace } from './request-trace.js';
import type { DeadlinedCrypto, KeyUseContext } from './use-cases/context.js';

/** What all requests on keys share. */
export interface KeyUseParts {
  readonly admission: Admission;
  readonly guard: DeadlineGuard;
  readonly crypto: HsmCrypto;
  readonly ivs: Pick<IvAccounts, 'mayEncrypt'>;
  readonly hsmName: () => string | null;
  readonly clock: Clock;
}

const beyondDeadline = err<HsmFailure>({ kind: 'deadline', rv: null, functionName: null });

/** The surroundings of one authentic, admitted request on a key. */
export class KeyUse implements KeyUseContext, DeadlinedCrypto {
  readonly externalKeyId: string;
  readonly #parts: KeyUseParts;
  readonly #opened: Opened;
  readonly #deadlineMs: number;
  readonly #trace: RequestTrace;

  constructor(
    parts: KeyUseParts,
    opened: Opened,
    externalKeyId: string,
    deadlineMs: number,
    trace: RequestTrace,
  ) {
    this.externalKeyId = externalKeyId;
    this.#parts = parts;
    this.#opened = opened;
    this.#deadlineMs = deadlineMs;
    this.#trace = trace;
  }

  get keyStore(): string {
    return this.#opened.keyStore.name;
  }

  get hsm(): DeadlinedCrypto {
    return this;
  }

  known(): Known {
    return this.#parts.admission.known(this.#opened);
  }

  mayEncrypt(objectId: string): boolean {
    return this.#parts.ivs.mayEncrypt(objectId, this.known().state);
  }

  encrypt(operation: EncryptOperation): Promise<Result<EncryptResult, HsmFailure>> {
    const route = this.#route();
    const startedAtMs = this.#parts.clock.monotonicMs();
    const work = this.#parts.crypto.encrypt(operation, this.#deadlineMs, route);
    return this.#within(work, route, startedAtMs, () => {});
  }

  decrypt(operation: DecryptOperation): Promise<Result<Uint8Array, HsmFailure>> {
    const route = this.#route();
    const startedAtMs = this.#parts.clock.monotonicMs();
    const work = this.#parts.crypto.decrypt(operation, this.#deadlineMs, route);
    return this.#within(work, route, startedAtMs, wipe);
  }

  /** Not the trace itself: what comes after the deadline must not write into one that is logged already. */
  #route(): HsmRoute {
    return { hsm: this.#parts.hsmName(), askedFirst: null };
  }

  #traced(route: HsmRoute, startedAtMs: number): void {
    const trace = this.#trace;
    trace.hsm = route.hsm;
    trace.hsmAskedFirst = route.askedFirst;
    trace.hsmMs = this.#parts.clock.monotonicMs() - startedAtMs;
  }

  /** The pool answers by the deadline itself; the guard makes sure. */
  #within<T>(
    work: Promise<Result<T, HsmFailure>>,
    route: HsmRoute,
    startedAtMs: number,
    discard: (value: T) => void,
  ): Promise<Result<T, HsmFailure>> {
    return this.#parts.guard.within<Result<T, HsmFailure>>(
      work,
      this.#deadlineMs,
      () => {
        this.#traced(route, startedAtMs);
        return beyondDeadline;
      },
      (result, late) => {
        if (!late) this.#traced(route, startedAtMs);
        else if (result.ok) discard(result.value);
      },
    );
  }
}
