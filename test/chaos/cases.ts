import { rotateAuthority } from './cases/certificates.js';
import { corruptByte, fullDisk, killPointsCase, wipedDirectory } from './cases/disks.js';
import { isolatedFollower, isolationStop } from './cases/freshness.js';
import { killLeader, killRandom } from './cases/kills.js';
import { removeLeader, rollingRestart } from './cases/members.js';
import { restartWithoutQuorum } from './cases/no-quorum.js';
import { bridge, isolateLeader, majority, oneWay, slowLinks } from './cases/partitions.js';
import { replicaFaults } from './cases/replica-faults.js';
import { stopStoreLeaderDeath } from './cases/stop-store.js';
import { stopFollower, stopLeader } from './cases/stops.js';
import { mixedVersions } from './cases/versions.js';
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
  stopStoreLeaderDeath,
  restartWithoutQuorum,
  rotateAuthority,
  rollingRestart,
  removeLeader,
  fullDisk,
  corruptByte,
  wipedDirectory,
  mixedVersions,
  replicaFaults,
  majority,
  bridge,
];
