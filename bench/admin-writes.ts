import { setTimeout as delay } from 'node:timers/promises';
import { AdminClient } from '../src/cli/admin-client.js';

/** Denials of a key store that serves nobody: each is a write to the durable logs of a quorum. */
export class AdminWrites {
  readonly #socketPath: string;
  readonly #keyStore = 'bench-writes';

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  #client(): AdminClient {
    return new AdminClient(this.#socketPath, null, () => {});
  }

  /** Makes the key store, unless an earlier run has. */
  async prepare(): Promise<void> {
    const { keyStores } = await this.#client().call('keystore.list', {});
    if (keyStores.some(({ name }) => name === this.#keyStore)) return;
    const location = { uriPathPrefix: this.#keyStore, regions: ['us-east-1'] };
    await this.#client().call('keystore.create', { name: this.#keyStore, ...location });
  }

  /** Begins `rate` changes a second until `ended`. @returns how many were made; rejects when one was not. */
  async run(rate: number, ended: AbortSignal): Promise<number> {
    const writes: Promise<unknown>[] = [];
    while (!ended.aborted) {
      const write = this.#client().call('keystore.disable', { name: this.#keyStore });
      // Looked at in the end, with the others.
      write.catch(() => {});
      writes.push(write);
      await delay(1_000 / rate, undefined, { signal: ended }).catch(() => {});
    }
    return (await Promise.all(writes)).length;
  }
}
