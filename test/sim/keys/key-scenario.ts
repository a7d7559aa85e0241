import { type OnIsolation, limits as stateLimits } from '../../../src/keystate/types.js';
import type { Random } from '../random.js';
import type { Scenario } from '../scenario.js';

/** Of simulations that are over key state and not over registers. */
const keyShare = 1 / 4;

/** What is drawn beside the rest where the state machine is key state. */
export interface KeyScenario {
  readonly keyStores: number;
  /** Each. */
  readonly keys: number;
  /** Each key store's rule at first; clients change it. */
  readonly rules: readonly OnIsolation[];
  /** Of a node, all its life. */
  readonly servingProcesses: readonly number[];
  readonly linkDelayMeanMs: number;
  readonly linkBufferBytesMax: number;
  /** Between requests of KMS. */
  readonly requestMeanMs: number;
  readonly hsmMeanMs: number;
  /** Between faults of serving processes and links; infinite for none. */
  readonly servingFaultMeanMs: number;
  /** Nodes run two releases, and go over to the later one some time. */
  readonly mixedReleases: boolean;
}

/** @param forced whether it is to be one over key state; `null`: drawn. */
export function drawKeyScenario(random: Random, forced: boolean | null): KeyScenario | null {
  const drawn = random.chance(keyShare);
  if (!(forced ?? drawn)) return null;
  const keyStores = random.pick([1, 2]);
  return {
    keyStores,
    keys: random.pick([1, 2, 4]),
    rules: Array.from({ length: keyStores }, () => drawRule(random)),
    servingProcesses: Array.from({ length: 16 }, () => random.pick([1, 1, 2])),
    linkDelayMeanMs: random.pick([0.1, 1, 20]),
    linkBufferBytesMax: random.pick([16_000, 1 << 24]),
    requestMeanMs: random.pick([20, 60]),
    hsmMeanMs: random.pick([5, 30, 200]),
    servingFaultMeanMs: random.pick([800, 2_500, Number.POSITIVE_INFINITY]),
    mixedReleases: random.chance(0.5),
  };
}

export function drawRule(random: Random): OnIsolation {
  if (random.chance(0.25)) return { rule: 'serve' };
  return { rule: 'stop', boundMs: random.pick([stateLimits.isolationBoundMsMin, 7_500]) };
}

/** The rest, where it would be too quick, too often, or too short for what is about seconds. */
export function withKeys(scenario: Scenario, random: Random): Scenario {
  const { limits, faultMeanMs, faultLengthMeanMs } = scenario;
  const slowed = random.pick([1, 3]);
  return {
    ...scenario,
    limits: {
      ...limits,
      // As in nodes: the gate of an upgrade wants reports from just now.
      reportIntervalMs: 1_000,
      snapshotEntries: Math.max(limits.snapshotEntries, 20),
    },
    faultMeanMs: faultMeanMs * slowed,
    faultLengthMeanMs: faultLengthMeanMs * slowed,
    operationMeanMs: Math.max(scenario.operationMeanMs, 40),
    snapshotPaddingBytes: 0,
    // Recoveries are simulated over registers.
    lostQuorumShare: null,
  };
}
