import { ok } from '../base/result.js';
import type { PendingGrant } from '../keystate/cluster-types.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';

type Described = AdminResponse<'pending.list'>['pending'][number];

const describePending = ({ index, type, keyStore, name, revision }: PendingGrant): Described => ({
  index,
  command: type,
  keyStore,
  name,
  revision,
});

/** What a recovery took back until somebody decides (replication.md 13). */
export function pendingHandlers(context: AdminContext): NounHandlers<'pending'> {
  const { proposer } = context;

  function find(index: number): Described | null {
    for (const row of context.state.pending()) if (row.index === index) return describePending(row);
    return null;
  }

  return {
    'pending.list': async () => ok({ pending: [...context.state.pending()].map(describePending) }),

    'pending.confirm': async ({ index }, caller) => {
      // Gone when this is repeated under its request id: key state knows what became of it.
      const grant = find(index);
      const report = await proposer.propose({ type: 'pending.confirm', index }, caller);
      return report.ok ? ok({ index, grant, change: report.value }) : report;
    },

    'pending.drop': async ({ index }, caller) => {
      const grant = find(index);
      const report = await proposer.propose({ type: 'pending.drop', index }, caller);
      return report.ok ? ok({ index, grant, change: report.value }) : report;
    },
  };
}
