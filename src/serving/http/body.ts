import type { Readable } from 'node:stream';
import { wipe } from '../../base/bytes.js';
import type { HttpLimits } from './limits.js';
import { bodyShare, type ReceivingBudget } from './receiving-budget.js';

/** How the reception of a body ended. */
export type BodyOutcome =
  | { readonly kind: 'complete'; readonly body: Uint8Array }
  /** More than `bodyBytesMax`; the rest is still to come. */
  | { readonly kind: 'too-large' }
  /** More than `bodyPiecesMax`: to be answered by the end of the connection. */
  | { readonly kind: 'too-many-pieces' }
  /** Not there within `bodyTimeoutMs`. */
  | { readonly kind: 'too-slow' }
  /** All connections together hold `receivingBytesMax`, and this body was the first to begin. */
  | { readonly kind: 'no-room' }
  /** The peer went away, or what it sent is no HTTP. */
  | { readonly kind: 'gone' };

const nothing = new Uint8Array(0);

/** The first buffer of a body in several pieces. */
const bufferBytesMin = 1_024;

/**
 * Collects the body of a request. Settles exactly once; whatever the outcome, `source` stays flowing, so that what may
 * still come is thrown away. The function returned gives up (`gone`): Node tells nobody when a request ends that was
 * answered before its body was complete.
 *
 * A piece may be a single byte and costs hundreds of bytes as an object, so pieces are not kept: a body is the first
 * one as it came, which is nearly always all of it, or a copy.
 */
export function receiveBody(
  source: Readable,
  limits: HttpLimits,
  budget: ReceivingBudget,
  settle: (outcome: BodyOutcome) => void,
): () => void {
  let held: Uint8Array = nothing;
  let bytes = 0;
  let pieces = 0;
  let settled = false;

  const finish = (outcome: BodyOutcome): void => {
    if (settled) return;
    settled = true;
    clearTimeout(timer);
    budget.release(share);
    // What is of no use may hold a customer's data key.
    if (outcome.kind !== 'complete') wipe(held);
    held = nothing;
    settle(outcome);
  };
  const timer = setTimeout(() => finish({ kind: 'too-slow' }), limits.bodyTimeoutMs);
  const gone = (): void => finish({ kind: 'gone' });
  const share = bodyShare(() => finish({ kind: 'no-room' }));

  /** False when there is no room. */
  const keep = (piece: Uint8Array): boolean => {
    if (pieces === 1) {
      // It keeps the whole packet alive that it is a part of.
      if (!budget.hold(share, piece.buffer.byteLength)) return false;
      held = piece;
      bytes = piece.byteLength;
      return true;
    }
    const size = bytes + piece.byteLength;
    if (pieces === 2 || size > held.byteLength) {
      const capacity = Math.min(Math.max(2 * size, bufferBytesMin), limits.bodyBytesMax);
      if (!budget.hold(share, capacity)) return false;
      const larger = Buffer.allocUnsafeSlow(capacity);
      larger.set(held.subarray(0, bytes));
      wipe(held);
      held = larger;
    }
    held.set(piece, bytes);
    wipe(piece);
    bytes = size;
    return true;
  };

  source.on('data', (piece: Uint8Array) => {
    if (settled) return;
    pieces += 1;
    if (bytes + piece.byteLength > limits.bodyBytesMax) finish({ kind: 'too-large' });
    else if (pieces > limits.bodyPiecesMax) finish({ kind: 'too-many-pieces' });
    else if (!keep(piece)) finish({ kind: 'no-room' });
    else return;
    wipe(piece);
  });
  source.once('end', () => finish({ kind: 'complete', body: held.subarray(0, bytes) }));
  source.once('aborted', gone);
  source.once('error', gone);
  source.once('close', gone);
  return gone;
}

/**
 * Throws away what is left of a body that was refused, so that a client which sends all before it reads gets to see
 * the answer (X-T6). Calls `done` once: at the end of the body or when the peer is gone (`ended`), else when it has
 * been silent for `lingerMs`, or when `discardBytesMax` or `bodyTimeoutMs` is used up.
 *
 * It never stops reading: what a paused stream is sent waits in it, and an object for each byte that a peer's window
 * lets through is more than a server has memory for. Whoever sends `discardPiecesMax` is to lose the connection:
 * `cutOff`, before or after `done`.
 */
export function discardBody(
  source: Readable,
  limits: HttpLimits,
  done: (ended: boolean) => void,
  cutOff: () => void,
): void {
  let bytes = 0;
  let pieces = 0;
  let finished = false;
  const finish = (ended: boolean): void => {
    if (finished) return;
    finished = true;
    clearTimeout(silence);
    clearTimeout(total);
    done(ended);
  };
  const silence = setTimeout(() => finish(false), limits.lingerMs);
  const total = setTimeout(() => finish(false), limits.bodyTimeoutMs);
  source.on('data', (piece: Uint8Array) => {
    wipe(piece);
    bytes += piece.byteLength;
    pieces += 1;
    if (pieces > limits.discardPiecesMax) cutOff();
    else if (bytes > limits.discardBytesMax) finish(false);
    else if (!finished) silence.refresh();
  });
  const ended = (): void => finish(true);
  source.once('end', ended);
  source.once('aborted', ended);
  source.once('error', ended);
  source.once('close', ended);
  source.resume();
}
