import { join } from 'node:path';
import t from 'tap';
import { systemTimers } from '../../src/base/timers.js';
import { systemFiles } from '../../src/replication/file-operations.js';
import { emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { MemoryDisk } from '../support/memory-disk.js';
import { MemoryLog } from '../support/memory-log.js';
import { SeededRandom } from '../support/seeded-random.js';
import { orderedLogCompliance } from './ordered-log-compliance.js';

orderedLogCompliance(t, 'the log in memory', async (_, machine) => {
  const log = new MemoryLog(machine);
  return {
    log,
    appendOwn: async () => log.appendOwn(),
    restore: async (index, commands) => log.restore(index, commands),
  };
});

orderedLogCompliance(t, 'Raft with one member', async (t, machine) => {
  const dir = join(t.testdir(), 'data');
  t.match(await initialise(systemFiles, dir), { ok: true });
  const opened = await openNode(systemFiles, machine, { dir, timers: systemTimers });
  if (!opened.ok) throw new Error(opened.error.message);
  return { log: opened.value, appendOwn: null, restore: null };
});

orderedLogCompliance(t, 'Raft with one member on a disk in memory', async (_, machine) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  const opened = await openNode(disk, machine, { segmentBytesMax: 8_192, snapshotEntries: 20 });
  if (!opened.ok) throw new Error(opened.error.message);
  return { log: opened.value, appendOwn: null, restore: null };
});
