import type { KeyStateQueries } from '../keystate/types.js';

/** When each credential last authenticated a request in this process: a few per key store. */
export class CredentialUse {
  readonly #lastUsedMs = new Map<string, number>();

  used(accessKeyId: string, wallMs: number): void {
    this.#lastUsedMs.set(accessKeyId, wallMs);
  }

  forget(accessKeyId: string): void {
    this.#lastUsedMs.delete(accessKeyId);
  }

  /** Drops credentials that key state has no more. */
  retain(state: KeyStateQueries): void {
    for (const accessKeyId of this.#lastUsedMs.keys()) {
      if (state.credential(accessKeyId) === null) this.#lastUsedMs.delete(accessKeyId);
    }
  }

  report(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#lastUsedMs);
  }
}
