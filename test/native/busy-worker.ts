import { randomBytes } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { loadNativeBinding } from '../../src/base/native.js';
import { Cells, cellsMax, plainContext } from '../../src/hsm/cells.js';
import type { ObjectId } from '../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';

/** A thread that never stops encrypting, until it is terminated. Says once that it has begun. */

const { token, sessions, objectId } = workerData as {
  readonly token: { readonly modulePath: string; readonly initArgs: string; readonly slotId: bigint };
  readonly sessions: number;
  readonly objectId: ObjectId;
};
const cells = new Cells();
const binding = loadNativeBinding();
const submitted = new Uint32Array(2 * cellsMax);
const queue = binding.openPkcs11OperationQueue({
  submitted,
  done: new Uint32Array(2 * cellsMax),
  completed: () => {},
});
const { crypto, rv } = binding.openPkcs11Crypto({
  ...token,
  sessionsMax: sessions,
  sessionIdleMs: 60_000,
  queueId: queue.id,
  memory: new Uint8Array(cells.memory),
  witnessPlaintext,
  witnessAad,
});
if (crypto === null) throw new Error(`no session: ${rv}`);

for (let round = 0; ; round++) {
  const refs = [];
  for (let i = 0; i < 16; i++) {
    const ref = cells.putEncrypt(
      {
        key: { objectId, witness: null },
        plaintext: randomBytes(500),
        gcmAad: new Uint8Array(),
        integrityPrefix: null,
        verify: true,
      },
      plainContext,
    );
    if (ref === null) throw new Error('no cell');
    submitted.set([ref.index, ref.generation], 2 * refs.length);
    refs.push(ref);
  }
  queue.submit(refs.length, sessions);
  // The threads of the other sessions take theirs meanwhile.
  for (let done = 0; done < refs.length; done += queue.collect()) crypto.work(0);
  for (const ref of refs) {
    if (cells.outcome(ref).result !== 'ok') throw new Error('an encrypt failed');
    cells.release(ref);
  }
  if (round === 0) parentPort?.postMessage('busy');
}
