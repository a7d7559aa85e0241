import type { Standing, TokenStatus } from '../ops/state-link.js';

export interface Readiness {
  readonly ready: boolean;
  /** For people: what is missing; `ready` when nothing is. */
  readonly reason: string;
}

export interface ReadinessInputs {
  readonly draining: boolean;
  /** Whether key state was applied once: an older one serves, too. */
  readonly hasState: boolean;
  readonly standing: Standing;
  /** Cut off, and every key store is set to stop then. */
  readonly isolated: boolean;
  readonly tokens: readonly TokenStatus[];
  /** Whether key state has a test key and a wrapped cluster secret for one of `tokens`. */
  readonly prepared: boolean;
  readonly secretsAvailable: boolean;
  /** Why the cluster secret could not be unwrapped; `null` while nothing is known to be wrong. */
  readonly secretFault: string | null;
}

/** X-H4: ready is a process with key state applied, one usable token, and secrets to authenticate with. */
export function judgeReadiness(inputs: ReadinessInputs): Readiness {
  const missing = whatIsMissing(inputs);
  return missing === null ? { ready: true, reason: 'ready' } : { ready: false, reason: missing };
}

function whatIsMissing(inputs: ReadinessInputs): string | null {
  if (inputs.draining) return 'draining: this process is about to end';
  if (!inputs.hasState) return 'key state has not arrived from the replica yet';
  if (!inputs.standing.mayServe) return inputs.standing.reason;
  if (inputs.isolated) {
    return 'this node is cut off from the others, and every key store is set to stop then (on-isolation)';
  }
  if (!inputs.tokens.some(({ state }) => state !== 'UNAVAILABLE')) {
    const reasons = inputs.tokens.map(
      ({ uri, label, reason }) => `${label ?? uri}: ${reason ?? 'unavailable'}`,
    );
    return `no usable token (${reasons.join('; ')})`;
  }
  if (!inputs.prepared) return 'the token is not prepared; run: xksctl hsm prepare';
  if (!inputs.secretsAvailable) {
    return `the cluster secret is not unwrapped yet${inputs.secretFault === null ? '' : `: ${inputs.secretFault}`}`;
  }
  return null;
}

/** So long a process that is not ready waits for its token before it may answer 503. */
export const acceptAnywayAfterMs = 2_000;

export interface AcceptInputs {
  readonly ready: boolean;
  /** Whether the first attempt to reach the token has ended. */
  readonly firstAttemptConcluded: boolean;
  readonly sinceStartMs: number;
  /** Ready serving processes of this node; `null` while the supervisor has not said. */
  readonly readyServingProcesses: number | null;
}

/**
 * Whether to begin accepting connections. All processes share the listening socket: one that cannot serve would take
 * connections from those that can. Where nobody can, callers get a truthful 503 rather than no connection.
 */
export function mayAccept(inputs: AcceptInputs): boolean {
  if (inputs.ready) return true;
  const concluded = inputs.firstAttemptConcluded || inputs.sinceStartMs >= acceptAnywayAfterMs;
  return concluded && inputs.readyServingProcesses === 0;
}
