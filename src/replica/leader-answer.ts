import { err, ok, type Result } from '../base/result.js';
import { type AdminCommand, type AdminResponse, adminCommands } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';
import type { ClusterControl } from './cluster-control.js';

const noLeader: AdminError = {
  code: 'no-quorum',
  message:
    'No leader is known here: a majority of the voters must be running and able to reach each other. ' +
    '`xksctl cluster status` says who was heard of last; nothing was changed.',
};

/** Has the leader run a command that only it can decide upon. `null`: this node leads. */
export async function atLeader<C extends AdminCommand>(
  cluster: ClusterControl,
  command: C,
  body: object,
  caller: AdminCaller,
): Promise<Result<AdminResponse<C>, AdminError> | null> {
  const { leader } = cluster.status().raft;
  if (leader === null) return err(noLeader);
  if (leader === cluster.memberId) return null;
  return askMember(cluster, leader, command, body, caller);
}

export async function askMember<C extends AdminCommand>(
  cluster: ClusterControl,
  memberId: string,
  command: C,
  body: object,
  caller: AdminCaller,
): Promise<Result<AdminResponse<C>, AdminError>> {
  const answer = await cluster.ask(memberId, command, body, caller);
  if (!answer.ok) return err(withRequestId(answer.error, command, caller.requestId));
  const parsed = adminCommands[command].response.safeParse(answer.value);
  // The schema of `command` made it; the compiler cannot follow that through the union.
  if (parsed.success) return ok(parsed.data as AdminResponse<C>);
  return err({ code: 'internal', message: `The other node's answer to ${command} is not understood here.` });
}

/** How to repeat what may have been done, unless the member that was asked has said so. */
function withRequestId(error: AdminError, command: AdminCommand, requestId: string): AdminError {
  if (error.code !== 'outcome-unknown' || error.message.includes(requestId)) return error;
  // A transfer is no change: no id is remembered of it.
  const advice =
    command === 'cluster.transfer'
      ? '`xksctl cluster status` shows who leads.'
      : `Repeat it with --request-id ${requestId}: it is carried out once at most.`;
  return { ...error, message: `${error.message} ${advice}` };
}
