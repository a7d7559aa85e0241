import type { Clock } from '../base/clock.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { StatePublication } from './state-publication.js';

/**
 * When each live credential was last used, over all serving processes. Not durable: it knows of nothing before
 * `watchedSinceMs` but what living serving processes remember.
 */
export class CredentialUse {
  readonly watchedSinceMs: number;
  readonly #lastUsedMs = new Map<string, number>();

  constructor(publication: StatePublication, state: () => KeyStateQueries, clock: Clock) {
    this.watchedSinceMs = clock.wallMs();
    publication.observe({
      onHello: () => {},
      onHsmReply: () => {},
      onClosed: () => {},
      onMetrics: (_link, _hello, { credentialLastUsedMs }) => {
        for (const [accessKeyId, usedMs] of Object.entries(credentialLastUsedMs)) {
          // Only live credentials are kept, so that the table is no larger than key state.
          if (state().credential(accessKeyId) === null) this.#lastUsedMs.delete(accessKeyId);
          else this.#lastUsedMs.set(accessKeyId, Math.max(usedMs, this.lastUsedMs(accessKeyId) ?? 0));
        }
      },
    });
  }

  /** Wall clock, ms; `null` when no use is known. */
  lastUsedMs(accessKeyId: string): number | null {
    return this.#lastUsedMs.get(accessKeyId) ?? null;
  }
}
