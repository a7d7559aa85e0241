import { encodeHex } from '../base/bytes.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import { encodeCommand } from '../keystate/command-codec.js';
import { KeyStateMachine } from '../keystate/state-machine.js';
import type { CommandResult } from '../keystate/types.js';
import { openLogOfOne } from '../replication/log-of-one.js';
import type { OrderedLog } from '../replication/ordered-log.js';
import { openWhenFree, type WhenFreeOptions } from './open-data-directory.js';

export interface OpenLogOptions extends WhenFreeOptions {
  readonly random: RandomSource;
  readonly logger: Logger;
  /** The log can go on no more; the process should end. */
  readonly onFatal: (message: string) => void;
}

export interface OpenedLog {
  readonly log: OrderedLog<CommandResult>;
  readonly machine: KeyStateMachine;
}

/**
 * Opens this node's data directory and the log in it, and brings key state to its end. The first start of a new cluster
 * puts the cluster's identity into key state.
 *
 * @returns a sentence for the operator when it cannot be done; a restart would not help.
 */
export async function openLog(options: OpenLogOptions): Promise<Result<OpenedLog, string>> {
  const { logger, onFatal } = options;
  const directory = await openWhenFree(options);
  if (!directory.ok) return directory;
  const { identity } = directory.value;
  const machine = new KeyStateMachine();
  const log = await openLogOfOne({
    directory: directory.value,
    stateMachine: machine,
    onFatal,
    onWarning: (message) => logger.warn('the durable log was mended', { reason: message }),
  });
  if (!log.ok) return err(log.error.message);
  const problem = await initialiseCluster(options, log.value, machine, identity.clusterId);
  if (problem === null) return ok({ log: log.value, machine });
  await log.value.close();
  return err(problem);
}

/** What is in the way, if anything. */
async function initialiseCluster(
  { node, clock, random }: OpenLogOptions,
  log: OrderedLog<CommandResult>,
  machine: KeyStateMachine,
  clusterId: string,
): Promise<string | null> {
  const known = machine.state.cluster();
  if (known !== null) {
    if (known.clusterId === clusterId) return null;
    return (
      `the log in ${node.dataDir} is of cluster ${known.clusterId}, its identity.json of cluster ${clusterId}: ` +
      'they were mixed up; restore the directory from a backup of this node'
    );
  }
  const proposed = await log.propose(
    encodeCommand({
      type: 'cluster.init',
      clusterId,
      nodeName: node.name,
      requestId: encodeHex(random.bytes(16)),
      atMs: clock.wallMs(),
      by: 'cluster init',
    }),
  );
  if (!proposed.ok) return `the identity of the cluster could not be logged: ${proposed.error.kind}`;
  const { result } = proposed.value;
  return result.ok ? null : result.error.message;
}
