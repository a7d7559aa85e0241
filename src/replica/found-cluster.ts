import { err, ok, type Result } from '../base/result.js';
import { commandFormatMax } from '../keystate/command-format.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { Identity } from '../replication/identity-file.js';
import { wayBack } from '../replication/log-damage.js';
import type { Change, ChangeProposer } from './change-proposer.js';

/**
 * What the founder of a cluster has yet to put into key state: who the cluster is, or, where a release that knew no
 * members made it, who its only member is. `null`: all is there.
 */
function foundingChange(
  state: KeyStateQueries,
  { clusterId, memberId, nodeName: name }: Identity,
  address: string,
): Change | null {
  if (state.cluster() === null) {
    return { type: 'cluster.init', clusterId, nodeName: name, memberId, address, format: commandFormatMax };
  }
  // Members came with format 2; until a cluster of one is upgraded it has the one that founded it.
  if (state.activeFormat() < 2) return null;
  const [first] = state.members();
  return first === undefined ? { type: 'member.register', memberId, name, address } : null;
}

/** @returns a sentence for the operator when key state is another cluster's, or could not be changed. */
export async function foundCluster(
  state: () => KeyStateQueries,
  identity: Identity,
  address: string,
  proposer: ChangeProposer,
): Promise<Result<null, string>> {
  const known = state().cluster();
  if (known !== null && known.clusterId !== identity.clusterId) {
    return err(
      `the log is of cluster ${known.clusterId}, identity.json of cluster ${identity.clusterId}: files of two nodes were mixed. ${wayBack}`,
    );
  }
  if (identity.role !== 'founder') return ok(null);
  const change = foundingChange(state(), identity, address);
  if (change === null) return ok(null);
  const proposed = await proposer.propose(change, { by: 'cluster init' });
  return proposed.ok ? ok(null) : err(`the cluster could not be founded: ${proposed.error.message}`);
}
