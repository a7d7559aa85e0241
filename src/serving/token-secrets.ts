import { encodeHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { Timers } from '../base/timers.js';
import type { Token } from '../hsm/token.js';
import type { KeyStateQueries, PreparedToken } from '../keystate/types.js';
import { preparedKeyObject, unwrapClusterSecret } from './cluster-secret.js';
import type { SecretStore } from './secret-store.js';

/** A wrapping key is used once per process start: a slow token may take its time. */
const unwrapDeadlineMs = 5_000;
const retryFirstMs = 250;
const retryMaxMs = 5_000;

export interface TokenSecretsOptions {
  readonly token: Pick<Token, 'crypto' | 'status' | 'setTestKey'>;
  readonly state: () => KeyStateQueries | null;
  readonly secrets: SecretStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** The cluster secret is there, or why it is not has changed. */
  readonly onChange: () => void;
}

/**
 * Brings together what key state says was prepared on the token and the token itself: tells the token its test key,
 * and has it unwrap the cluster secret, once. Afterwards the token may fail: the secret stays.
 */
export class TokenSecrets {
  readonly #options: TokenSecretsOptions;
  #unwrapping = false;
  #failures = 0;
  #fault: string | null = null;
  #cancelRetry: () => void = () => {};
  #closed = false;

  constructor(options: TokenSecretsOptions) {
    this.#options = options;
  }

  /** Why the secret could not be unwrapped; `null` when it was, or nothing was tried. */
  get fault(): string | null {
    return this.#fault;
  }

  /** What key state holds for the token; `null` while that or the token is not known. */
  prepared(): PreparedToken | null {
    const { serial } = this.#options.token.status();
    return serial === null ? null : (this.#options.state()?.preparedToken(serial) ?? null);
  }

  /** To be called whenever key state or the token has changed. */
  update(): void {
    if (this.#closed || this.#options.state() === null) return;
    const prepared = this.prepared();
    this.#options.token.setTestKey(prepared === null ? null : preparedKeyObject(prepared.testKey));
    // Without sessions it could only fail; once it has some, this is called again.
    if (this.#options.token.status().sessions === 0) return;
    if (prepared !== null && !this.#unwrapping && this.#isWanted(prepared)) void this.#unwrap(prepared);
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry();
  }

  /** None yet, or another one: a token may be prepared anew as long as nothing is sealed. */
  #isWanted(prepared: PreparedToken): boolean {
    const checkValue = this.#options.secrets.checkValue();
    return checkValue === null || encodeHex(checkValue) !== prepared.secretCheckValue;
  }

  async #unwrap(prepared: PreparedToken): Promise<void> {
    const { token, secrets, clock, logger, timers } = this.#options;
    this.#unwrapping = true;
    this.#cancelRetry();
    const unwrapped = await unwrapClusterSecret(
      token.crypto,
      prepared,
      clock.monotonicMs() + unwrapDeadlineMs,
    );
    this.#unwrapping = false;
    if (this.#closed) {
      if (unwrapped.ok) unwrapped.value.fill(0);
      return;
    }
    if (unwrapped.ok) {
      secrets.install(unwrapped.value);
      this.#failures = 0;
      this.#fault = null;
      logger.info('cluster secret unwrapped', { token: prepared.label, serial: prepared.serial });
      // Key state may have moved on meanwhile.
      this.update();
    } else {
      if (unwrapped.error !== this.#fault) logger.warn('no cluster secret', { reason: unwrapped.error });
      this.#fault = unwrapped.error;
      this.#failures += 1;
      const delayMs = Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(this.#failures - 1, 8));
      this.#cancelRetry = timers.after(delayMs, () => this.update());
    }
    this.#options.onChange();
  }
}
