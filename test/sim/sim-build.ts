import { planLostQuorum } from '../../src/replication/lost-quorum.js';
import { refusalFor } from '../../src/replication/peer-gate.js';
import { ReplicationLoop } from '../../src/replication/replication-loop.js';
import type { FreshnessTracker } from '../../src/serving/state-freshness.js';
import { type DiskImage, type LogCodec, logCodec, SimDisk } from './disk.js';
import { nextRelease } from './next-release.js';
import type { Random } from './random.js';
import { type Execution, RegisterMachine } from './register-machine.js';
import { type Release, thisRelease } from './release.js';

/** The parts that a simulation runs: the real ones, or some with a planted bug. */
export interface SimBuild {
  readonly ReplicationLoop: typeof ReplicationLoop;
  readonly createMachine: (onExecution: Execution, snapshotPaddingBytes: number) => RegisterMachine;
  readonly createDisk: (
    image: DiskImage,
    segmentRecordsMax: number,
    random: Random,
    codec: LogCodec,
  ) => SimDisk;
  readonly codec: LogCodec;
  /** A serving process's. Both clocks in ms; the second stands still while the machine is suspended. */
  readonly createFreshness: (
    release: Release,
    bootTimeMs: () => number,
    monotonicMs: () => number,
  ) => FreshnessTracker;
  /** This one and the next. */
  readonly releases: readonly [Release, Release];
  readonly planLostQuorum: typeof planLostQuorum;
  readonly refusalFor: typeof refusalFor;
}

export const realBuild: SimBuild = {
  ReplicationLoop,
  createMachine: (onExecution, paddingBytes) => new RegisterMachine(onExecution, paddingBytes),
  createDisk: (image, segmentRecordsMax, random, codec) =>
    new SimDisk(image, segmentRecordsMax, random, codec),
  codec: logCodec,
  createFreshness: (release, bootTimeMs) => new release.FreshnessTracker(bootTimeMs),
  releases: [thisRelease, await nextRelease()],
  planLostQuorum,
  refusalFor,
};
