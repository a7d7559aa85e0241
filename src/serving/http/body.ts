import type { Readable } from 'node:stream';
import { wipe } from '../../base/bytes.js';
import type { HttpLimits } from './limits.js';

/** How the reception of a body ended. */
export type BodyOutcome =
  | { readonly kind: 'complete'; readonly body: Uint8Array }
  /** More than `bodyBytesMax`; the rest is still to come. */
  | { readonly kind: 'too-large' }
  /** Not there within `bodyTimeoutMs`. */
  | { readonly kind: 'too-slow' }
  /** All connections together are receiving `receivingBytesMax` already. */
  | { readonly kind: 'no-room' }
  /** The peer went away, or what it sent is no HTTP. */
  | { readonly kind: 'gone' };

/** The bytes of unfinished bodies that one process holds, over all connections. */
export class ReceivingBudget {
  #free: number;

  constructor(bytesMax: number) {
    this.#free = bytesMax;
  }

  take(bytes: number): boolean {
    if (bytes > this.#free) return false;
    this.#free -= bytes;
    return true;
  }

  give(bytes: number): void {
    this.#free += bytes;
  }
}

const nothing = new Uint8Array(0);

/**
 * Collects the body of a request. Settles exactly once; whatever the outcome, `source` stays flowing, so that what may
 * still come is thrown away. The function returned gives up (`gone`): Node tells nobody when a request ends that was
 * answered before its body was complete.
 */
export function receiveBody(
  source: Readable,
  limits: HttpLimits,
  budget: ReceivingBudget,
  settle: (outcome: BodyOutcome) => void,
): () => void {
  let chunks: Uint8Array[] = [];
  let bytes = 0;
  let settled = false;

  const finish = (outcome: BodyOutcome): void => {
    if (settled) return;
    settled = true;
    clearTimeout(timer);
    budget.give(bytes);
    // A body in several pieces was copied into one, or is of no use: its pieces hold a customer's data key.
    if (outcome.kind !== 'complete' || chunks.length > 1) for (const chunk of chunks) wipe(chunk);
    chunks = [];
    settle(outcome);
  };
  const timer = setTimeout(() => finish({ kind: 'too-slow' }), limits.bodyTimeoutMs);
  const gone = (): void => finish({ kind: 'gone' });

  source.on('data', (chunk: Uint8Array) => {
    if (settled) return;
    if (bytes + chunk.byteLength > limits.bodyBytesMax) finish({ kind: 'too-large' });
    else if (!budget.take(chunk.byteLength)) finish({ kind: 'no-room' });
    else {
      bytes += chunk.byteLength;
      chunks.push(chunk);
    }
  });
  source.once('end', () => finish({ kind: 'complete', body: joined(chunks, bytes) }));
  source.once('aborted', gone);
  source.once('error', gone);
  source.once('close', gone);
  return gone;
}

function joined(chunks: readonly Uint8Array[], bytes: number): Uint8Array {
  const [first] = chunks;
  if (first === undefined) return nothing;
  return chunks.length === 1 ? first : Buffer.concat(chunks, bytes);
}

/**
 * Throws away what is left of a body that was refused, so that a client which sends all before it reads gets to see
 * the answer (X-T6). Calls `done` once: at the end of the body, when the peer is gone or has been silent for
 * `lingerMs`, or when `discardBytesMax` or `bodyTimeoutMs` is used up. From then on nothing more is read.
 */
export function discardBody(source: Readable, limits: HttpLimits, done: () => void): void {
  let bytes = 0;
  let finished = false;
  const finish = (): void => {
    if (finished) return;
    finished = true;
    clearTimeout(silence);
    clearTimeout(total);
    source.pause();
    done();
  };
  const silence = setTimeout(finish, limits.lingerMs);
  const total = setTimeout(finish, limits.bodyTimeoutMs);
  source.on('data', (chunk: Uint8Array) => {
    bytes += chunk.byteLength;
    if (bytes > limits.discardBytesMax) finish();
    else if (!finished) silence.refresh();
  });
  source.once('end', finish);
  source.once('aborted', finish);
  source.once('error', finish);
  source.once('close', finish);
  source.resume();
}
