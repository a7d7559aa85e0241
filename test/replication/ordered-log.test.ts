import { join } from 'node:path';
import t from 'tap';
import { systemTimers } from '../../src/base/timers.js';
import { systemFiles } from '../../src/replication/file-operations.js';
import { emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { MemoryDisk } from '../support/memory-disk.js';
import { MemoryLog } from '../support/memory-log.js';
import { grownCluster, memberIds, memberOf } from '../support/raft-log-cluster.js';
import { SeededRandom } from '../support/seeded-random.js';
import { orderedLogCompliance } from './ordered-log-compliance.js';

orderedLogCompliance(
  t,
  'the log in memory',
  async (_, machine) => {
    const log = new MemoryLog(machine);
    return {
      log,
      appendOwn: async () => log.appendOwn(),
      restore: async (index, commands) => log.restore(index, commands),
    };
  },
  ['appendOwn', 'restore'],
);

orderedLogCompliance(t, 'Raft with one member', async (t, machine) => {
  const dir = join(t.testdir(), 'data');
  t.match(await initialise(systemFiles, dir), { ok: true });
  const opened = await openNode(systemFiles, machine, { dir, timers: systemTimers });
  if (!opened.ok) throw new Error(opened.error.message);
  return { log: opened.value };
});

orderedLogCompliance(t, 'Raft with one member on a disk in memory', async (_, machine) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  const opened = await openNode(disk, machine, { segmentBytesMax: 8_192, snapshotEntries: 20 });
  if (!opened.ok) throw new Error(opened.error.message);
  return { log: opened.value };
});

for (const [place, memberId] of memberIds.slice(0, 2).entries()) {
  orderedLogCompliance(
    t,
    `Raft with three members, at ${memberId}`,
    async (t, machine) => {
      const cluster = await grownCluster({ machines: { [memberId]: machine } });
      const { log, engine } = memberOf(cluster, memberId);
      await cluster.until('it has applied all', () => cluster.agreed() && cluster.applied(log.appliedIndex));
      cluster.run();
      t.teardown(() => cluster.close());
      const others = memberIds.filter((id) => id !== memberId);
      // A new leader begins with an entry of its own.
      const appendOwn = async (): Promise<void> => {
        const before = log.appliedIndex;
        const leader = cluster.leader?.engine;
        const heir = others.find((id) => id !== leader?.memberId) ?? '';
        t.equal(leader?.transferLeadership(heir), true);
        while (log.appliedIndex === before) await new Promise((resolve) => setImmediate(resolve));
        t.equal(engine.status().raft.leader, heir);
      };
      t.equal(engine.status().raft.role, place === 0 ? 'leader' : 'follower');
      return { log, appendOwn };
    },
    ['appendOwn'],
  );
}
