import { parentPort, workerData } from 'node:worker_threads';
import { loadNativeBinding, type Pkcs11Crypto, type Pkcs11Outcome } from '../base/native.js';

/** What the pool gives each of its workers. */
export interface CryptoWorkerData {
  readonly memory: SharedArrayBuffer;
  readonly queueId: number;
  readonly modulePath: string;
  readonly initArgs: string;
  readonly slotId: bigint;
  readonly sessionsMax: number;
  readonly sessionIdleMs: number;
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
    sessionsMax: data.sessionsMax,
    sessionIdleMs: data.sessionIdleMs,
    queueId: data.queueId,
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
 * A task of the pool: this thread takes operations off the queue until `shiftMs` are over. It is away from its event
 * loop meanwhile, so a shift is short enough for a worker that is to end.
 * @returns `null`, or why no session could be opened: nothing was taken then.
 */
export function workShift(shiftMs: number): Pkcs11Outcome | null {
  if (crypto === null) {
    const outcome = open();
    if (crypto === null) return outcome;
  }
  crypto.work(shiftMs);
  return null;
}
