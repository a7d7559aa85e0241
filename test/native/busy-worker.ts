import { randomBytes } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { loadNativeBinding } from '../../src/base/native.js';
import { Cells } from '../../src/hsm/cells.js';
import type { ObjectId } from '../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';

/** A thread that never stops encrypting, until it is terminated. Says once that it has begun. */

const { token, sessions, objectId } = workerData as {
  readonly token: { readonly modulePath: string; readonly initArgs: string; readonly slotId: bigint };
  readonly sessions: number;
  readonly objectId: ObjectId;
};
const cells = new Cells();
const { crypto, rv } = loadNativeBinding().openPkcs11Crypto({
  ...token,
  sessions,
  memory: new Uint8Array(cells.memory),
  witnessPlaintext,
  witnessAad,
});
if (crypto === null) throw new Error(`no session: ${rv}`);

// As in a Piscina worker, a port keeps the loop alive while a batch is out.
parentPort?.on('message', () => {});

for (let round = 0; ; round++) {
  const batch: number[] = [];
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
      null,
    );
    if (ref === null) throw new Error('no cell');
    refs.push(ref);
    batch.push(ref.index, ref.generation);
  }
  if (sessions > 1) await crypto.start(batch);
  else crypto.run(batch);
  for (const ref of refs) {
    if (cells.outcome(ref).result !== 'ok') throw new Error('an encrypt failed');
    cells.release(ref);
  }
  if (round === 0) parentPort?.postMessage('busy');
}
