import { killLeader, killRandom } from './cases/kills.js';
import { bridge, isolateLeader, majority, oneWay, slowLinks } from './cases/partitions.js';
import { stopFollower, stopLeader } from './cases/stops.js';
import type { ChaosCase } from './chaos-case.js';

/** In the order in which they run: those that share a cluster size one after the other. */
export const cases: readonly ChaosCase[] = [
  killLeader,
  killRandom,
  stopLeader,
  stopFollower,
  isolateLeader,
  oneWay,
  slowLinks,
  majority,
  bridge,
];
