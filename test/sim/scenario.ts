import type { LoopLimits } from '../../src/replication/replication-loop.js';
import type { NetworkPlan } from './network.js';
import type { Random } from './random.js';

/** Members over a whole run: each id is used once, so replaced ones need another. */
export const slotsMax = 12;

export const faultKinds = [
  'crash',
  'crashWriting',
  'crashAll',
  'isolate',
  'oneWay',
  'split',
  'bridge',
  'randomCuts',
  'pause',
  'diskStall',
  'diskError',
  'clock',
  'loseDisk',
] as const;
export type FaultKind = (typeof faultKinds)[number];

export type LastMisfortuneKind = 'lostCampaign' | 'lateAnswers' | 'unheardFollower';

/** What a seed comes to: everything that is drawn before the run begins. */
export interface Scenario {
  readonly nodes: number;
  /** It grows from one founder; else it begins as a cluster of `nodes`. */
  readonly grown: boolean;
  readonly limits: LoopLimits;
  readonly network: NetworkPlan;
  readonly diskMeanMs: number;
  readonly segmentRecordsMax: number;
  /** Between faults; infinite for none. */
  readonly faultMeanMs: number;
  readonly faultLengthMeanMs: number;
  /** Weights. */
  readonly faults: readonly (readonly [FaultKind, number])[];
  /** How often a fault that strikes one node strikes the leader. */
  readonly leaderBias: number;
  readonly operationMeanMs: number;
  readonly registers: number;
  readonly readShare: number;
  readonly timeoutMs: number;
  /** Of a command. */
  readonly paddingBytesMax: number;
  readonly retryChance: number;
  /** Between an operator's acts; infinite for none. */
  readonly operatorMeanMs: number;
  /** Learners at once. */
  readonly learnersMax: number;
  /** A snapshot takes so many bytes more. */
  readonly snapshotPaddingBytes: number;
  /** Right before all is healed; `null` for none. */
  readonly lastMisfortune: LastMisfortuneKind | null;
  /** After this share of the events a majority is lost for ever, and the cluster recovered; `null`: never. */
  readonly lostQuorumShare: number | null;
  /** That a process ends amid a write that replaces the end of its log. */
  readonly crashReplacingChance: number;
}

/** @param nodes when given; else drawn. */
export function drawScenario(random: Random, nodes: number | null): Scenario {
  const size =
    nodes ??
    random.weighted([
      [1, 4],
      [2, 6],
      [3, 40],
      [4, 8],
      [5, 30],
      [6, 4],
      [7, 8],
    ]);
  const tickMs = random.pick([50, 100]);
  const electionTicks = random.pick([5, 6, 8, 10]);
  const electionMs = tickMs * electionTicks;
  const calm = random.chance(0.05);
  const faults = faultKinds.map((kind) => [kind, drawWeight(random, kind)] as const);
  const drawn: Scenario = {
    nodes: size,
    grown: random.chance(0.2),
    limits: {
      tickMs,
      electionTicks,
      heartbeatTicks: electionTicks >= 6 ? random.pick([1, 2]) : 1,
      proposalsMax: random.chance(0.1) ? 4 : 256,
      commandBytesMax: 4_096,
      snapshotEntries: random.pick([8, 20, 50, 200]),
      snapshotBytes: 1 << 20,
      freshnessIntervalMs: 500,
      reportIntervalMs: random.pick([1_000, 5_000]),
      stateHashInterval: random.pick([1, 16, 64]),
      core: {
        inflightMessagesMax: random.pick([1, 4, 256]),
        inflightBytesMax: 1 << 23,
        committedBytesMax: random.pick([1, 1_000, 1 << 20]),
        // What waits must not take longer to go out one by one than there is time after healing.
        ...random.pick([
          { appendBytesMax: 1, uncommittedBytesMax: 1_500 },
          { appendBytesMax: 400, uncommittedBytesMax: 8_000 },
          { appendBytesMax: 1 << 20, uncommittedBytesMax: 1 << 26 },
        ]),
      },
    },
    network: drawNetwork(random, tickMs, electionMs),
    diskMeanMs: random.pick([0.2, 1, 5, 20]),
    segmentRecordsMax: random.pick([4, 16, 64]),
    faultMeanMs: calm ? Number.POSITIVE_INFINITY : electionMs * random.pick([0.7, 1.5, 3]),
    faultLengthMeanMs: electionMs * random.pick([0.5, 1.5, 4]),
    faults: faults.some(([, weight]) => weight > 0) ? faults : [['crash', 1]],
    leaderBias: random.pick([0.2, 0.5, 0.8]),
    operationMeanMs: random.pick([5, 15, 40, 120]),
    registers: random.pick([1, 3, 10]),
    readShare: random.pick([0.1, 0.3, 0.6]),
    timeoutMs: electionMs * random.pick([0.5, 2, 5]),
    paddingBytesMax: random.pick([0, 300, 2_000]),
    retryChance: random.pick([0.3, 0.7, 0.95]),
    operatorMeanMs: random.chance(0.3) ? Number.POSITIVE_INFINITY : electionMs * random.pick([0.3, 1, 3, 6]),
    learnersMax: random.pick([1, 1, 3]),
    snapshotPaddingBytes: random.pick([0, 0, 0, 600_000]),
    // Drawn last, so that all before is as it was for the same seed.
    lastMisfortune: random.pick([null, null, 'lostCampaign', 'lateAnswers', 'unheardFollower'] as const),
    crashReplacingChance: random.pick([0, 0, 0.3]),
    lostQuorumShare: random.chance(0.3) ? random.between(0.1, 0.7) : null,
  };
  return drawn.lastMisfortune === 'unheardFollower' ? compactingOften(drawn, nodes) : drawn;
}

/**
 * Many snapshots, each of few entries, and followers that are sent all there is: else hardly any ever makes one while its
 * leader, which waits for its answers, makes none.
 */
function compactingOften(drawn: Scenario, nodes: number | null): Scenario {
  const { limits } = drawn;
  return {
    ...drawn,
    nodes: nodes ?? Math.max(3, drawn.nodes),
    limits: {
      ...limits,
      snapshotEntries: Math.min(limits.snapshotEntries, 20),
      core: {
        inflightMessagesMax: 256,
        inflightBytesMax: 1 << 23,
        committedBytesMax: 1 << 20,
        appendBytesMax: 1 << 20,
        uncommittedBytesMax: 1 << 26,
      },
    },
    operationMeanMs: Math.min(drawn.operationMeanMs, 15),
    // Where members may be changing, all have to be healed, and the follower is not needed.
    grown: false,
    operatorMeanMs: Number.POSITIVE_INFINITY,
    lostQuorumShare: null,
  };
}

/** Each seed is about a few kinds of faults. */
function drawWeight(random: Random, kind: FaultKind): number {
  const rare = kind === 'crashAll' || kind === 'loseDisk';
  return random.chance(0.5) ? random.between(0.2, rare ? 0.5 : 2) : 0;
}

function drawNetwork(random: Random, tickMs: number, electionMs: number): NetworkPlan {
  return {
    lossChance: random.pick([0, 0, 0.01, 0.05, 0.2]),
    duplicateChance: random.pick([0, 0.01, 0.1]),
    delayMeanMs: tickMs * random.pick([0.01, 0.1, 0.3, 0.8]),
    stragglerChance: random.pick([0, 0.001, 0.01, 0.05]),
    stragglerMsMax: electionMs * random.pick([1, 5, 20]),
  };
}
