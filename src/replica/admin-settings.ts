import { isDeepStrictEqual } from 'node:util';
import { err, ok, type Result } from '../base/result.js';
import { defaultSettings } from '../keystate/cluster-settings.js';
import type { ClusterSettings } from '../keystate/cluster-types.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import type { AdminRequest, AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';
import { atLeader } from './leader-answer.js';

/** An election may be under way. */
const readTimeoutMs = 2_000;

type Wanted = AdminRequest<'settings.set'>['settings'];
type Answer = Result<AdminResponse<'settings.set'>, AdminError>;

const amended = (settings: ClusterSettings, wanted: Wanted): ClusterSettings => ({
  electionTicks: wanted.electionTicks ?? settings.electionTicks,
  tickMs: wanted.tickMs ?? settings.tickMs,
  heartbeatTicks: wanted.heartbeatTicks ?? settings.heartbeatTicks,
  freshnessIntervalMs: wanted.freshnessIntervalMs ?? settings.freshnessIntervalMs,
  serveStaleMaxMs: wanted.serveStaleMaxMs ?? settings.serveStaleMaxMs,
});

/** Key state does not hold what was asked for under an id, only which settings came of it. */
const overtaken = ({ requestId }: AdminCaller, index: number): AdminError => ({
  code: 'conflict',
  message:
    `Request ${requestId} was carried out at index ${index}. Either it was another change, or what it set was set ` +
    'otherwise since. Nothing was changed now: look at `xksctl cluster settings`, and repeat this without the id ' +
    'where you still want it.',
});

/** What safety depends on and must be the same on all nodes (replication.md 15). */
export function settingsHandlers(context: AdminContext): NounHandlers<'settings'> {
  const { proposer, cluster } = context;
  let last: Promise<unknown> = Promise.resolve();

  /**
   * A command carries all settings: without the newest ones it would undo what another has just set. So it is for this
   * node to append, in the term in which it has read them, or for nobody: a leader after it may have set others.
   */
  async function set(wanted: Wanted, caller: AdminCaller): Promise<Answer> {
    const { term } = cluster.status().raft;
    const read = await cluster.readIndex(readTimeoutMs);
    if (!read.ok) return read;
    const current = context.state.settings();
    const settings = amended(current, wanted);
    const outcome = context.state.outcomeOf(caller.requestId);
    const before = outcome?.ok === true ? outcome : null;
    // As a change it would carry what others have set meanwhile, and so be another one than the first time.
    if (before !== null && isDeepStrictEqual(settings, current)) {
      return ok({ settings: current, change: await proposer.followAgain(before.revision) });
    }
    const report = await proposer.propose({ type: 'cluster.settings', settings }, caller, { onlyTerm: term });
    if (report.ok) return ok({ settings: context.state.settings(), change: report.value });
    const isOvertaken = before !== null && report.error.code === 'conflict';
    return isOvertaken ? err(overtaken(caller, before.revision)) : report;
  }

  return {
    'settings.show': async () => ok({ settings: context.state.settings(), defaults: defaultSettings }),

    'settings.set': async ({ settings }, caller) => {
      if (Object.keys(settings).length === 0) {
        return err({ code: 'bad-request', message: 'Name a setting and its value; nothing was changed.' });
      }
      const elsewhere = await atLeader(cluster, 'settings.set', { settings }, caller);
      if (elsewhere !== null) return elsewhere;
      // One after the other, all at the leader.
      const mine = last.then(() => set(settings, caller));
      last = mine.catch(() => {});
      return mine;
    },
  };
}
