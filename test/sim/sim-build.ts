import { ReplicationLoop, raftLimits } from '../../src/replication/replication-loop.js';
import { type DiskImage, type LogCodec, logCodec, SimDisk } from './disk.js';
import type { Random } from './random.js';
import { type Execution, RegisterMachine } from './register-machine.js';
import type { CoreLimits } from './scenario.js';

/** The parts that a simulation runs: the real ones, or some with a planted bug. */
export interface SimBuild {
  readonly ReplicationLoop: typeof ReplicationLoop;
  /** The loop's constants for the core, which each run sets to what it drew. */
  readonly raftLimits: CoreLimits;
  readonly createMachine: (onExecution: Execution, snapshotPaddingBytes: number) => RegisterMachine;
  readonly createDisk: (image: DiskImage, segmentRecordsMax: number, random: Random, codec: LogCodec) => SimDisk;
  readonly codec: LogCodec;
}

export const realBuild: SimBuild = {
  ReplicationLoop,
  raftLimits,
  createMachine: (onExecution, paddingBytes) => new RegisterMachine(onExecution, paddingBytes),
  createDisk: (image, segmentRecordsMax, random, codec) => new SimDisk(image, segmentRecordsMax, random, codec),
  codec: logCodec,
};
