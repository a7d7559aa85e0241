import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import { KeyStateMachine } from '../keystate/state-machine.js';
import type { CommandResult } from '../keystate/types.js';
import type { ClusterConfig, Config } from '../ops/config.js';
import { loadClusterTlsFiles } from '../ops/tls-files.js';
import type { ClusterEngine } from '../replication/cluster-engine.js';
import type { DataDirectory } from '../replication/data-directory.js';
import { readFence } from '../replication/fence-file.js';
import type { FileOperations } from '../replication/file-operations.js';
import { emptiedLog } from '../replication/log-damage.js';
import type { OrderedLog } from '../replication/ordered-log.js';
import type { NodeReport } from '../replication/peer-message.js';
import type { PeerInbox } from '../replication/peer-transport.js';
import { openRaftLog } from '../replication/raft-log.js';
import type { PeerTlsFiles } from '../replication/transport/peer-credentials.js';
import { ClusterPeers } from './cluster-peers.js';
import { openWhenFree } from './open-data-directory.js';

export interface OpenLogOptions {
  readonly config: Pick<Config, 'node' | 'cluster'>;
  readonly files: FileOperations;
  readonly tryLockFile: (fd: number) => number;
  readonly clock: Clock;
  readonly timers: Timers;
  /** CLOCK_BOOTTIME, ms. */
  readonly bootTimeMs: () => number;
  readonly random: RandomSource;
  readonly logger: Logger;
  readonly report: () => Omit<NodeReport, 'appliedIndex' | 'stateHashes'>;
  /** The log in `directory` can go on no more; the process should end. */
  readonly onFatal: (message: string, directory: DataDirectory) => void;
  /** Replication has stopped here for good; serving goes on. */
  readonly onHalted: (reason: string) => void;
}

export interface OpenLogFailure {
  readonly message: string;
  /** A restart may help. */
  readonly transient: boolean;
}

export interface OpenedLog {
  readonly log: OrderedLog<CommandResult>;
  readonly engine: ClusterEngine;
  readonly inbox: PeerInbox;
  readonly machine: KeyStateMachine;
  readonly directory: DataDirectory;
  /** `null`: a cluster of one, or fenced off. */
  readonly peers: ClusterPeers | null;
  /** Why this node must not serve; `null` when it may. */
  readonly fence: string | null;
}

/**
 * Opens this node's data directory, the log in it and the way to the other members, and brings key state to the end of
 * what is known to be committed.
 *
 * @returns a sentence for the operator when it cannot be done.
 */
export async function openLog(options: OpenLogOptions): Promise<Result<OpenedLog, OpenLogFailure>> {
  const { config, files, logger } = options;
  const opened = await openWhenFree({ ...options, node: config.node });
  const failure = (message: string): OpenLogFailure => ({ message, transient: false });
  if (!opened.ok) return err(failure(opened.error));
  const directory = opened.value;
  const giveUp = async (problem: OpenLogFailure): Promise<Result<never, OpenLogFailure>> => {
    await directory.close();
    return err(problem);
  };
  const fence = await readFence(files, directory.path);
  if (!fence.ok) return giveUp(failure(fence.error.message));
  const machine = new KeyStateMachine();
  const { identity } = directory;
  if (identity.role === 'joiner' && config.cluster === null) {
    return giveUp(failure('this node joined a cluster, and its configuration has no [cluster] section'));
  }
  const { cluster } = config;
  const peers =
    cluster !== null && fence.value === null
      ? await ClusterPeers.start({
          config: cluster,
          identity,
          state: () => machine.state,
          loadTls: () => peerTlsFiles(cluster, config.node.name, options.clock),
          timers: options.timers,
          logger,
        })
      : ok(null);
  if (!peers.ok) return giveUp(peers.error);
  const log = await openRaftLog({
    directory,
    stateMachine: machine,
    ...(peers.value !== null && { transport: peers.value.transport }),
    timers: options.timers,
    bootTimeMs: options.bootTimeMs,
    random: () => unitInterval(options.random),
    report: options.report,
    onFatal: (message) => options.onFatal(message, directory),
    onHalted: options.onHalted,
    onWarning: (reason) => logger.warn('replication', { reason }),
  });
  if (log.ok && identity.role === 'member' && machine.membership() === null) {
    await log.value.log.close();
    return err(failure(emptiedLog(directory.path)));
  }
  if (log.ok) {
    return ok({ ...log.value, machine, directory, peers: peers.value, fence: fence.value });
  }
  await peers.value?.transport.close();
  return err(failure(log.error.message));
}

function peerTlsFiles(
  cluster: ClusterConfig,
  nodeName: string,
  clock: Clock,
): Result<PeerTlsFiles & { readonly notAfterMs: number }, string> {
  const files = loadClusterTlsFiles({ ...cluster, nodeName, nowMs: clock.wallMs() });
  if (!files.ok) return files;
  const { ca, cert: certificate, key, notAfterMs } = files.value;
  return ok({ ca, certificate, key, notAfterMs });
}

/** In [0, 1). */
function unitInterval(random: RandomSource): number {
  const bytes = Buffer.from(random.bytes(6));
  return bytes.readUIntBE(0, 6) / 2 ** 48;
}
