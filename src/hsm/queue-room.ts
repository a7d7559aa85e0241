/**
 * Whether an operation that arrives now can be done by its deadline. Pure. What cannot is refused at once: an answer that
 * comes too late is work for nothing, and so is the wait for it.
 */

/** Operations waiting for a lane. */
export const queuedMax = 256;
/** What waits takes this much longer than its average says: the operations ahead may happen to be the dear ones. */
const waitMargin = 1.25;
/** Of a request that had to wait: for its way back through the event loop. */
const answerMs = 10;

export interface QueueState {
  /** Operations that wait or are being carried out; 1 at least, as there is always one that measures the token anew. */
  readonly ahead: number;
  /** Lanes that share them, 1 at least. */
  readonly lanes: number;
  /** What an operation takes on average, in microseconds; 0 where that is not known. */
  readonly operationMicros: number;
  readonly msLeft: number;
}

/**
 * In an overload the queue is as long as this lets it be, all the time. It need not be long for the lanes to have work, but
 * where it reached up to the deadline every second operation in it would miss that by chance.
 */
export function hasRoom({ ahead, lanes, operationMicros, msLeft }: QueueState): boolean {
  if (ahead - lanes >= queuedMax) return false;
  const operationMs = operationMicros / 1_000;
  const doneInMs =
    ahead < lanes
      ? operationMs
      : roundsBefore(ahead, lanes) * operationMs * waitMargin + operationMs + answerMs;
  return doneInMs <= msLeft;
}

/**
 * How many operations' time passes before a lane is free for the one that arrives. Lanes rarely begin together: with many
 * of them the first is free soon, and what waits for it is on average half of an operation short of whole rounds.
 */
function roundsBefore(ahead: number, lanes: number): number {
  return (ahead - lanes + 1) / lanes + (lanes - 1) / (2 * lanes);
}

/**
 * Whether an operation that waits will not be done in time, as it looks by now: a token that becomes slow all at once has
 * been given more than it can do. Who is told so early can go elsewhere. Pure.
 */
export function isTooLate({ ahead, lanes, operationMicros, msLeft }: QueueState): boolean {
  return ahead >= lanes && (Math.floor(ahead / lanes) + 1) * operationMicros > 1_000 * msLeft;
}
