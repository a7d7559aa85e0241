/** How a token of the fleet stands towards one operation, best first. */
export const Standing = {
  /** Nothing is known against it. */
  well: 0,
  /** Its breaker is open. */
  out: 1,
  /** The background checks say UNAVAILABLE. */
  unavailable: 2,
  /** It was found not to hold the key, lately. */
  withoutKey: 3,
} as const;
export type Standing = (typeof Standing)[keyof typeof Standing];

/** Tokens of one node. X-H2 shows at most ten. */
export const fleetTokensMax = 10;

/** A token as far as the choice goes. */
export interface Candidate {
  /** One bit, another one for each. */
  readonly bit: number;
  /** Operations that it was asked for and has not answered. */
  readonly outstanding: number;
}

export interface Choice<C extends Candidate> {
  /** The bits of those that are left out. */
  readonly leftOut: number;
  /** Tokens that stand worse are left out, too. */
  readonly worst: Standing;
  readonly standing: (candidate: C) => Standing;
  /** Any number that grows: where the search begins, so that ties rotate. */
  readonly turn: number;
}

/**
 * Of the tokens that stand best the one with the least outstanding work; `null` when none is left. With `worst:
 * Standing.withoutKey` some token is always chosen: the last one is asked however ill it looks.
 */
export function chooseToken<C extends Candidate>(
  candidates: readonly C[],
  { leftOut, worst, standing, turn }: Choice<C>,
): C | null {
  let best: C | null = null;
  let bestStanding: number = worst;
  for (let step = 0; step < candidates.length; step++) {
    const candidate = candidates[(turn + step) % candidates.length];
    if (candidate === undefined || (leftOut & candidate.bit) !== 0) continue;
    const itsStanding = standing(candidate);
    if (itsStanding > bestStanding) continue;
    if (best === null || itsStanding < bestStanding || candidate.outstanding < best.outstanding) {
      best = candidate;
      bestStanding = itsStanding;
    }
  }
  return best;
}
