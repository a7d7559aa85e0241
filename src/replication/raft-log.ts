import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { DurableLog } from './durable-log.js';
import { RaftLog } from './raft-log-driver.js';
import type { OpenedRaftLog, RaftLogOptions } from './raft-log-options.js';

export type { DrivenLoop, OpenedRaftLog, RaftLogOptions } from './raft-log-options.js';

/**
 * Opens the ordered log in a data directory, replicated among the members of its cluster: one or more. After an error
 * the directory is closed.
 *
 * @returns a sentence for the operator when it cannot be done.
 */
export async function openRaftLog<R>(
  options: RaftLogOptions<R>,
): Promise<Result<OpenedRaftLog<R>, { readonly message: string }>> {
  const { directory, stateMachine, onWarning, segmentBytesMax } = options;
  const opened = await DurableLog.open(directory, segmentBytesMax);
  if (!opened.ok) {
    await directory.close();
    return err({ message: opened.error });
  }
  const { log, recovered } = opened.value;
  for (const warning of [...directory.warnings, ...recovered.warnings]) onWarning(warning);
  const { snapshot } = recovered;
  try {
    if (snapshot !== null) stateMachine.restore(snapshot.index, snapshot.records);
  } catch (thrown) {
    await log.close();
    await directory.close();
    const index = snapshot?.index ?? 0;
    return err({ message: `the snapshot as of index ${index} can't be taken: ${errorText(thrown)}` });
  }
  const raftLog = new RaftLog(options, log, recovered);
  raftLog.start();
  return ok({ log: raftLog, engine: raftLog, inbox: raftLog });
}
