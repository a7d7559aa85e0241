import type { Standing } from '../ops/state-link.js';

/** What decides whether this node may serve by the key state it has (replication.md 9, 10 and 14). */
export interface StandingInputs {
  /** Told "removed" or "other cluster", durably: why, and what to do; `null` when not. */
  readonly fence: string | null;
  /** Its state is not that of the majority (replication.md 9): how that shows; `null` when all agree. */
  readonly diverged: string | null;
  /**
   * The same leader has been heard of for long, nothing new has come from it, and still no quorum has confirmed this
   * node's state: what it has is not what the others have.
   */
  readonly unconfirmedBesideLeader: boolean;
  /** Whether a quorum has confirmed this node's state since it started. */
  readonly confirmed: boolean;
  /** Since the last confirmation before this start (wall clock); `null` when there never was one. */
  readonly lastConfirmedAgeMs: number | null;
  readonly serveStaleMaxMs: number;
  /** Proxies with a ready serving process that were heard of lately, without this one. */
  readonly otherLiveNodes: number;
}

/** The same, as the replica knows it. */
export interface NodeStanding extends Standing {
  /** It has stopped serving for good, over restarts too: told to, or its state is not to be trusted. */
  readonly fenced: boolean;
}

export function judgeStanding(inputs: StandingInputs): Standing {
  const reason = obstacle(inputs);
  return { mayServe: reason === null, reason: reason ?? '', fleetSize: 1 + inputs.otherLiveNodes };
}

function obstacle(inputs: StandingInputs): string | null {
  if (inputs.fence !== null) return inputs.fence;
  if (inputs.diverged !== null) return inputs.diverged;
  if (inputs.confirmed) return null;
  if (inputs.unconfirmedBesideLeader) {
    return "the leader is there, and this node's key state is not confirmed: look at `xksctl cluster status` on the leader's node";
  }
  const { lastConfirmedAgeMs: ageMs, serveStaleMaxMs } = inputs;
  if (ageMs === null) return 'no quorum has confirmed the key state of this node since it joined';
  // A clock that went back proves nothing; no confirmation comes from the future.
  if (ageMs >= 0 && ageMs <= serveStaleMaxMs) return null;
  return `no quorum can be reached, and the last confirmation of this node's key state is ${Math.round(ageMs / 1_000)} s old (serve-stale-max is ${Math.round(serveStaleMaxMs / 1_000)} s)`;
}
