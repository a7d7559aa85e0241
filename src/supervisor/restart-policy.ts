/** The first delay that is not zero. */
const delayFirstMs = 100;
export const restartDelayMaxMs = 30_000;
/** A child that lived so long is counted as sound: its next failure is a first one again. */
export const stableAfterMs = 60_000;
/**
 * Starting a child costs about a second of a core, which serving would have had. One that lived so long has been of use
 * in between, and can't cost more than a sixth of a core however often it ends.
 */
export const usefulAfterMs = 5_000;
/** Failures in a row, at most, that a child which was of use is charged with: it waits 1.6 s at most. */
const usefulFailuresMax = 5;

/**
 * How long a child that ended waits for its restart. A first failure costs nothing, so that a process killed by its
 * HSM's library is back at once; one that fails again and again as soon as it is started waits 0.1 s, 0.2 s, … up to
 * 30 s, each time half of that to all of it, so that the children of many nodes do not hit an ailing HSM in step.
 *
 * One that was of use is back within 1.6 s, whatever was before: a replica that is away for longer would let its node's
 * key state grow older than the smallest bound that key stores may have (6 s), and a node that is not cut off would stop.
 */
export class RestartPolicy {
  readonly #random: () => number;
  #failures = 0;

  /** `random`: uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  /** The delay before the restart of a child that lived for `livedMs`. */
  afterExit(livedMs: number): number {
    if (livedMs >= stableAfterMs) this.#failures = 0;
    else if (livedMs >= usefulAfterMs) this.#failures = Math.min(this.#failures, usefulFailuresMax);
    const failures = this.#failures++;
    if (failures === 0) return 0;
    return this.#jittered(Math.min(restartDelayMaxMs, delayFirstMs * 2 ** (failures - 1)));
  }

  /** The delay for a child that said that a person must act first: it is tried at the slowest pace. */
  afterFatal(): number {
    this.#failures++;
    return this.#jittered(restartDelayMaxMs);
  }

  #jittered(delayMs: number): number {
    return delayMs * (0.5 + this.#random() / 2);
  }
}
