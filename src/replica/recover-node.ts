import { readFile, stat, writeFile } from 'node:fs/promises';
import { encodeHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Config } from '../ops/config.js';
import { type DataDirectory, openDataDirectory } from '../replication/data-directory.js';
import { readFence } from '../replication/fence-file.js';
import type { FileOperations } from '../replication/file-operations.js';
import { type Recovered, recoverLog } from '../replication/log-recovery.js';
import { replaceLog } from '../replication/log-replacement.js';
import {
  decodeSurvivorReport,
  encodeSurvivorReport,
  type SurvivorReport,
  survivorReport,
} from '../replication/survivor-report.js';
import { foreignOwner } from './initialise-node.js';
import { planRecovery, type RecoveryPlan } from './recovery-plan.js';

export { systemFiles } from '../replication/file-operations.js';

const clusterIdBytes = 16;
const reportBytesMax = 64 * 1024;

export interface RecoverNodeOptions {
  readonly config: Pick<Config, 'node' | 'cluster'>;
  readonly files: FileOperations;
  /** flock(2) without waiting: 0 or an errno. */
  readonly tryLockFile: (fd: number) => number;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Of who runs this, for the record. */
  readonly by: string;
  /** Reports of other nodes, or their data directories. */
  readonly survivors: readonly string[];
  /** Only a plan without it. */
  readonly confirmed: boolean;
}

export interface NodeRecovery extends Omit<RecoveryPlan, 'machine' | 'position' | 'hardState'> {
  readonly done: boolean;
  readonly warnings: readonly string[];
  /** Where the log as it was lies, out of force. */
  readonly formerLog: readonly string[];
}

/**
 * Recovers the cluster from this node's data directory, on which no xksd may run: it goes on alone, as a new cluster.
 *
 * @returns a sentence for the operator when it can't be done; nothing was changed then.
 */
export async function recoverNode(options: RecoverNodeOptions): Promise<Result<NodeRecovery, string>> {
  const { config, files, clock, random, by, confirmed } = options;
  const { cluster, node } = config;
  if (cluster === null) {
    return err('the configuration has no [cluster] section: without it no other node could ever join again');
  }
  const survivors = await readSurvivors(options);
  if (!survivors.ok) return survivors;
  return withDirectory<NodeRecovery>(options, node.dataDir, node.name, async (directory, recovered) => {
    const fence = await readFence(files, directory.path);
    if (!fence.ok) return err(fence.error.message);
    const atMs = clock.wallMs();
    const plan = planRecovery({
      identity: directory.identity,
      recovered,
      fence: fence.value,
      survivors: survivors.value,
      newClusterId: encodeHex(random.bytes(clusterIdBytes)),
      address: cluster.advertise,
      atMs,
      mintRequestId: () => mintRequestId(atMs, random.bytes(requestIdRandomBytes)),
      by,
    });
    if (!plan.ok) return plan;
    const { machine, position, hardState, ...told } = plan.value;
    const { warnings } = recovered;
    const formerLog = [directory.logPath, directory.snapshotsPath];
    if (!confirmed) return ok({ ...told, done: false, warnings, formerLog });
    const replaced = await replaceLog(directory, {
      clusterId: told.newClusterId,
      position,
      hardState,
      records: machine.snapshot(),
    });
    return replaced.ok ? ok({ ...told, done: true, warnings, formerLog }) : replaced;
  });
}

/** Says in a file how far this node's log goes, for the recovery of another node. */
export async function reportSurvivor(
  options: Omit<RecoverNodeOptions, 'clock' | 'random' | 'by' | 'survivors' | 'confirmed'>,
  path: string,
): Promise<Result<SurvivorReport, string>> {
  const { dataDir, name } = options.config.node;
  const report = await surveyDirectory(options, dataDir, name);
  if (!report.ok) return report;
  try {
    await writeFile(path, encodeSurvivorReport(report.value));
    return report;
  } catch (thrown) {
    return err(`cannot write ${path}: ${errorText(thrown)}`);
  }
}

type DirectoryAccess = Pick<RecoverNodeOptions, 'files' | 'tryLockFile'>;

const surveyDirectory = (
  access: DirectoryAccess,
  dir: string,
  nodeName: string | null,
): Promise<Result<SurvivorReport, string>> =>
  withDirectory(access, dir, nodeName, async ({ identity }, recovered) =>
    ok(survivorReport(identity, recovered)),
  );

/** Lends an open and locked data directory and what it holds. */
async function withDirectory<T>(
  { files, tryLockFile }: DirectoryAccess,
  dir: string,
  nodeName: string | null,
  use: (directory: DataDirectory, recovered: Recovered) => Promise<Result<T, string>>,
): Promise<Result<T, string>> {
  const foreign = foreignOwner(dir, 'cluster recover');
  if (foreign !== null) return err(foreign);
  // No ballast: on a full disk that room is what this may need.
  const opened = await openDataDirectory({
    dir,
    nodeName,
    files,
    tryLockFile,
    pid: process.pid,
    ballastBytes: 0,
  });
  if (!opened.ok) return err(opened.error.message);
  try {
    const recovered = await recoverLog(opened.value);
    return recovered.ok ? await use(opened.value, recovered.value) : recovered;
  } catch (thrown) {
    return err(`cannot read the log in ${dir}: ${errorText(thrown)}`);
  } finally {
    await opened.value.close();
  }
}

async function readSurvivors(options: RecoverNodeOptions): Promise<Result<SurvivorReport[], string>> {
  const reports: SurvivorReport[] = [];
  for (const path of options.survivors) {
    const report = await readSurvivor(options, path);
    if (!report.ok) return report;
    reports.push(report.value);
  }
  return ok(reports);
}

async function readSurvivor(access: DirectoryAccess, path: string): Promise<Result<SurvivorReport, string>> {
  try {
    const info = await stat(path);
    if (info.isDirectory()) return await surveyDirectory(access, path, null);
    if (info.size > reportBytesMax) return err(`${path} is no report of a survivor: it is too long`);
    const report = decodeSurvivorReport(await readFile(path, 'utf8'));
    return report.ok
      ? report
      : err(
          `${path} is no report of a survivor: ${report.error}. Make it there with "xksctl cluster recover --report FILE --config …"`,
        );
  } catch (thrown) {
    return err(`cannot read ${path}: ${errorText(thrown)}`);
  }
}
