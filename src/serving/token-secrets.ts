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

type SecretsToken = Pick<Token, 'crypto' | 'status' | 'setTestKey'>;

export interface TokenSecretsOptions {
  readonly tokens: readonly SecretsToken[];
  readonly state: () => KeyStateQueries | null;
  readonly secrets: SecretStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** The cluster secret is there, or why it is not has changed. */
  readonly onChange: () => void;
}

/**
 * Brings together what key state says was prepared on the tokens and the tokens themselves: tells each its test key,
 * and has one of them unwrap the cluster secret, once. Afterwards any token may fail: the secret stays.
 */
export class TokenSecrets {
  readonly #options: TokenSecretsOptions;
  #unwrapping = false;
  #failures = 0;
  /** Whose turn it is: another token's after each failure. */
  #turn = 0;
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

  /** Whether key state holds something for one of the tokens; false while that or the tokens are not known. */
  get isPrepared(): boolean {
    return this.#options.tokens.some((token) => this.#preparedOf(token) !== null);
  }

  /** To be called whenever key state or a token has changed. */
  update(): void {
    const { tokens, state } = this.#options;
    if (this.#closed || state() === null) return;
    for (const token of tokens) {
      const prepared = this.#preparedOf(token);
      token.setTestKey(prepared === null ? null : preparedKeyObject(prepared.testKey));
    }
    if (this.#unwrapping || !this.#isWanted()) return;
    for (let step = 0; step < tokens.length; step++) {
      const token = tokens[(this.#turn + step) % tokens.length];
      const prepared = token === undefined ? null : this.#preparedOf(token);
      // Without sessions it could only fail; once it has some, this is called again.
      if (token === undefined || prepared === null || token.status().sessions === 0) continue;
      void this.#unwrap(token, prepared);
      return;
    }
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry();
  }

  #preparedOf(token: SecretsToken): PreparedToken | null {
    const { serial } = token.status();
    return serial === null ? null : (this.#options.state()?.preparedToken(serial) ?? null);
  }

  /** None yet, or one that key state knows no more: a token may be prepared anew as long as nothing is sealed. */
  #isWanted(): boolean {
    const checkValue = this.#options.secrets.checkValue();
    if (checkValue === null) return true;
    const held = encodeHex(checkValue);
    for (const { secretCheckValue } of this.#options.state()?.preparedTokens() ?? []) {
      if (secretCheckValue === held) return false;
    }
    return true;
  }

  async #unwrap(token: SecretsToken, prepared: PreparedToken): Promise<void> {
    const { secrets, clock, logger, timers } = this.#options;
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
      this.#turn += 1;
      const delayMs = Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(this.#failures - 1, 8));
      this.#cancelRetry = timers.after(delayMs, () => this.update());
    }
    this.#options.onChange();
  }
}
