import { parentPort, workerData } from 'node:worker_threads';
import { loadNativeBinding, type Pkcs11Crypto, type Pkcs11Outcome } from '../base/native.js';

/** What the pool gives each of its workers. */
export interface CryptoWorkerData {
  readonly memory: SharedArrayBuffer;
  readonly modulePath: string;
  readonly initArgs: string;
  readonly slotId: bigint;
  readonly sessions: number;
  readonly witnessPlaintext: Uint8Array;
  readonly witnessAad: Uint8Array;
}

/** Sent once by each worker: whether its first session could be opened. */
export interface CryptoWorkerReport extends Pkcs11Outcome {
  readonly kind: 'opened';
}

const binding = loadNativeBinding();
const data = workerData as CryptoWorkerData;
let crypto: Pkcs11Crypto | null = null;

function open(): Pkcs11Outcome {
  const opened = binding.openPkcs11Crypto({
    modulePath: data.modulePath,
    initArgs: data.initArgs,
    slotId: data.slotId,
    sessions: data.sessions,
    memory: new Uint8Array(data.memory),
    witnessPlaintext: data.witnessPlaintext,
    witnessAad: data.witnessAad,
  });
  crypto = opened.crypto;
  return { rv: opened.rv, functionName: opened.functionName, message: opened.message };
}

const report: CryptoWorkerReport = { kind: 'opened', ...open() };
parentPort?.postMessage(report);

/**
 * A task of the pool: `batch` alternates cell numbers and generations. Everything else is in the cells.
 * @returns `null`, or why no session could be opened: the cells were not looked at then.
 */
export function runBatch(batch: readonly number[]): Promise<Pkcs11Outcome | null> | Pkcs11Outcome | null {
  if (crypto === null) {
    const outcome = open();
    if (crypto === null) return outcome;
  }
  if (data.sessions > 1) return crypto.start(batch).then(() => null);
  crypto.run(batch);
  return null;
}
