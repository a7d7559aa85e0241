import t from 'tap';
import type { Membership } from '../../src/raft/types.js';
import { SnapshotSchedule } from '../../src/replication/snapshot-schedule.js';

const none: Membership = { voters: [], learners: [] };

/** After how many entries, of `bytes` each, a member's first snapshot is due. */
function dueAfter(memberId: string, membership: Membership, bytes = 1): number {
  const schedule = new SnapshotSchedule(1_000, 500_000, 0);
  let entries = 0;
  while (!schedule.isDue(memberId, membership)) {
    schedule.applied(bytes);
    entries += 1;
  }
  return entries;
}

t.test('members make their snapshots at different entries, the later joined the earlier', async (t) => {
  const membership: Membership = { voters: ['z', 'm', 'b'], learners: ['a'] };
  t.strictSame(
    ['z', 'm', 'b', 'a'].map((memberId) => dueAfter(memberId, membership)),
    [1_000, 938, 875, 813],
  );
  t.equal(dueAfter('z', { voters: ['z'], learners: [] }), 1_000);
});

t.test('the bytes of the log count as its entries do', async (t) => {
  const membership: Membership = { voters: ['z', 'm'], learners: [] };
  t.equal(dueAfter('z', membership, 1_000), 500);
  t.equal(dueAfter('m', membership, 1_000), 438);
});

t.test('who is no member, or knows of none, goes by the limits', async (t) => {
  t.equal(dueAfter('x', { voters: ['z', 'm'], learners: [] }), 1_000);
  t.equal(dueAfter('x', none), 1_000);
});

t.test('one at a time, and each counts from its beginning', async (t) => {
  const schedule = new SnapshotSchedule(10, 1_000_000, 0);
  const apply = (entries: number): void => {
    for (let entry = 0; entry < entries; entry += 1) schedule.applied(1);
  };
  apply(10);
  t.ok(schedule.isDue('z', none));
  schedule.begin(7, { index: 10, term: 1 });
  apply(10);
  t.notOk(schedule.isDue('z', none));
  t.same(schedule.saved(7), { index: 10, term: 1 });
  t.ok(schedule.isDue('z', none));
  schedule.restored(30);
  t.equal(schedule.index, 30);
  t.notOk(schedule.isDue('z', none));
});
