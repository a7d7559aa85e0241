import { rotateAuthority } from './cases/certificates.js';
import { corruptByte, fullDisk, killPointsCase, wipedDirectory } from './cases/disks.js';
import { isolatedFollower, isolationStop } from './cases/freshness.js';
import { killLeader, killRandom } from './cases/kills.js';
import { removeLeader, rollingRestart } from './cases/members.js';
import { bridge, isolateLeader, majority, oneWay, slowLinks } from './cases/partitions.js';
import { stopFollower, stopLeader } from './cases/stops.js';
import type { ChaosCase } from './chaos-case.js';

/** In the order in which they run: those that share a cluster size one after the other. */
export const cases: readonly ChaosCase[] = [
  killLeader,
  killRandom,
  killPointsCase,
  stopLeader,
  stopFollower,
  isolateLeader,
  oneWay,
  slowLinks,
  isolatedFollower,
  isolationStop,
  rotateAuthority,
  rollingRestart,
  removeLeader,
  fullDisk,
  corruptByte,
  wipedDirectory,
  majority,
  bridge,
];
