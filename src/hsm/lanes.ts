/**
 * How many lanes (PKCS#11 sessions, each with its thread) work at once. Pure.
 *
 * By Little's law a token needs as many as operations arrive while one is carried out. On a token in software each
 * further one costs instead: two sessions of SoftHSM2 do 18 % less than one, since they share its locks and our cores.
 */

/** A token that usually takes no longer for an operation, in microseconds, is quick. */
const quickMicrosMax = 150;
/** A sample below what is usual counts an eighth, one above at most a thirty-second of what is usual. */
const fallsBy = 1 / 8;
const risesBy = 1 / 32;

export interface LaneDemand {
  /** Operations that wait or are being carried out, abandoned ones apart. */
  readonly outstanding: number;
  /** Those of them whose call has been out for conspicuously long (`sweepMs` of the pool). */
  readonly overdue: number;
  /** Calls that are out although their request was answered: each occupies a lane. */
  readonly abandoned: number;
  /** `typicalMicros`; 0 before the first operation. */
  readonly typicalMicros: number;
  /** Lanes that a quick token gets: the workers. */
  readonly lanesMin: number;
  readonly lanesMax: number;
}

/**
 * What an operation usually takes, after one that took `sample` microseconds. About the first quintile: a slow token is
 * slow for all operations, while a thread that had to wait for a core is for a few. `known`: before it, 0 for nothing.
 */
export function typicalMicros(known: number, sample: number): number {
  if (known === 0) return sample;
  const difference = sample - known;
  return difference < 0 ? known + difference * fallsBy : known + Math.min(difference, known) * risesBy;
}

/** Whether more lanes would be of no use. A token that is not known yet is taken for quick until a call is overdue. */
export const isQuick = (micros: number): boolean => micros <= quickMicrosMax;

/** Lanes that may work now, `lanesMin` to `lanesMax`: a slow token has one for each operation, at once. */
export function lanesWanted(demand: LaneDemand): number {
  const { outstanding, overdue, abandoned, lanesMin, lanesMax } = demand;
  const prompt = outstanding - overdue;
  // As many again as are overdue: a token that has become slow is met within a few sweeps, before its first answer.
  const free = Math.max(lanesMin, isQuick(demand.typicalMicros) ? Math.min(prompt, overdue) : prompt);
  return Math.min(lanesMax, abandoned + overdue + free);
}
