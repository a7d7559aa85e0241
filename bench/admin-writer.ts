import { setTimeout as delay } from 'node:timers/promises';
import { AdminClient } from '../src/cli/admin-client.js';
import type { WriterOrder, WriterReport } from './admin-writes.js';

/** The operator of `--writes`: a process of its own, so that what it costs is not taken for what the nodes cost. */
const [socketPath = ''] = process.argv.slice(2);
const keyStore = 'bench-writes';
const client = (): AdminClient => new AdminClient(socketPath, null, () => {});

/** Makes the key store, unless an earlier run has. */
async function prepare(): Promise<void> {
  const { keyStores } = await client().call('keystore.list', {});
  if (keyStores.some(({ name }) => name === keyStore)) return;
  await client().call('keystore.create', {
    name: keyStore,
    uriPathPrefix: keyStore,
    regions: ['us-east-1'],
  });
}

/** Begins `rate` changes a second until `ended`: denials of a key store that serves nobody. Rejects when one fails. */
async function write(rate: number, ended: AbortSignal): Promise<number> {
  const writes: Promise<unknown>[] = [];
  while (!ended.aborted) {
    const made = client().call('keystore.disable', { name: keyStore });
    // Looked at in the end, with the others.
    made.catch(() => {});
    writes.push(made);
    await delay(1_000 / rate, undefined, { signal: ended }).catch(() => {});
  }
  return (await Promise.all(writes)).length;
}

// With whoever wanted the changes.
process.once('disconnect', () => process.exit(0));

const report = (message: WriterReport): void => void process.send?.(message);
let ended = new AbortController();
let writing: Promise<number> = Promise.resolve(0);

process.on('message', (order: WriterOrder) => {
  if (order.kind === 'write') {
    ended = new AbortController();
    writing = write(order.rate, ended.signal);
    writing.catch(() => {});
    return;
  }
  ended.abort();
  writing.then(
    (made) => report({ kind: 'made', made }),
    (thrown: unknown) => report({ kind: 'failed', reason: String(thrown) }),
  );
});

prepare().then(
  () => report({ kind: 'made', made: 0 }),
  (thrown: unknown) => report({ kind: 'failed', reason: String(thrown) }),
);
