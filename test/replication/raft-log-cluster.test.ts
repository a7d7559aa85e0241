import t from 'tap';
import { grownCluster, memberIds, memberOf } from '../support/raft-log-cluster.js';

t.test('a founder takes in others, who propose and read as it does', async (t) => {
  const cluster = await grownCluster();
  const last = await cluster.propose(memberOf(cluster, 'member-3'), 'from a follower');
  await cluster.until('all have it', () => cluster.applied(last));
  const texts = memberOf(cluster, 'member-1').machine.texts();
  t.strictSame(texts, ['from a follower']);
  for (const { machine } of cluster.members.values()) {
    t.strictSame(machine.texts(), texts);
    t.equal(machine.stateHash(), memberOf(cluster, 'member-1').machine.stateHash());
  }
  const read = await cluster.settled(memberOf(cluster, 'member-2').log.readIndex());
  t.match(read, { ok: true });
  t.ok(read.ok && read.value >= last);
  await cluster.close();
});

t.test('the leader goes, another leads, and all is there when it comes back', async (t) => {
  const cluster = await grownCluster();
  await cluster.propose(memberOf(cluster, 'member-1'), 'under the first');
  await cluster.stop('member-1');
  await cluster.until('another leads', () => cluster.agreed());
  const last = await cluster.propose(memberOf(cluster, 'member-2'), 'under the second');
  const leader = cluster.leader;
  t.ok(leader !== undefined && leader.engine.memberId !== 'member-1');
  const returned = await cluster.start('member-1');
  await cluster.until('it has caught up', () => returned.log.appliedIndex >= last);
  t.match(returned.machine.texts().slice(-2), ['under the first', 'under the second']);
  t.strictSame(returned.machine.texts(), leader?.machine.texts());
  await cluster.close();
});

t.test('without a quorum nothing is taken, and what is committed is there after a cold start', async (t) => {
  const cluster = await grownCluster();
  const last = await cluster.propose(memberOf(cluster, 'member-1'), 'committed');
  await cluster.until('all have it', () => cluster.applied(last));
  for (const id of memberIds) await cluster.stop(id);
  const alone = await cluster.start('member-2');
  t.equal(alone.machine.texts().at(-1), 'committed');
  const answer = await cluster.settled(alone.log.propose(Buffer.from('nobody hears'), { timeoutMs: 3_000 }));
  t.match(answer, { ok: false, error: { kind: 'not-taken' } });
  t.match(await cluster.settled(alone.log.readIndex(3_000)), { ok: false, error: { kind: 'no-quorum' } });
  await cluster.close();
});

t.test('one that is far behind gets a snapshot in place of its log, and keeps it', async (t) => {
  const cluster = await grownCluster();
  cluster.cut.add('member-3');
  const leader = memberOf(cluster, 'member-1');
  for (let count = 0; count < 120; count += 1) {
    await cluster.propose(leader, `while it is away ${count}`);
  }
  await cluster.until('the log before is forgotten', () => {
    const { firstIndex } = cluster.leader?.engine.status().raft ?? { firstIndex: 0 };
    return firstIndex > memberOf(cluster, 'member-3').log.appliedIndex + 1;
  });
  cluster.cut.clear();
  const last = await cluster.propose(leader, 'when it is back');
  await cluster.until('all have it', () => cluster.applied(last));
  const behind = memberOf(cluster, 'member-3');
  t.ok(behind.restored.length > 0, 'by a snapshot');
  const texts = leader.machine.texts();
  t.strictSame(behind.machine.texts(), texts);
  await cluster.stop('member-3');
  const again = await cluster.start('member-3');
  t.strictSame(again.machine.texts(), texts, 'what it applied is on its disk');
  const later = await cluster.propose(again, 'and it goes on');
  await cluster.until('all have it', () => cluster.applied(later));
  t.equal(again.machine.stateHash(), leader.machine.stateHash());
  await cluster.close();
});

t.test('a leader whose disk fails says nothing any more, and loses nothing', async (t) => {
  const probe = await grownCluster();
  const count = probe.disks.get('member-1')?.operations.length ?? 0;
  await probe.close();
  const cluster = await grownCluster({ faults: { 'member-1': { operation: count + 4, code: 'EIO' } } });
  const first = memberOf(cluster, 'member-1');
  const acknowledged: string[] = [];
  for (let place = 0; first.fatal.length === 0 && place < 50; place += 1) {
    const answer = await cluster.settled(first.log.propose(Buffer.from(`command ${place}`)));
    if (answer.ok) acknowledged.push(`command ${place}`);
    else t.equal(answer.error.kind, 'closed');
  }
  t.match(first.fatal, [/cannot write to the data directory \/data: EIO/]);
  t.match(await first.log.propose(Buffer.from('too late')), { ok: false, error: { kind: 'closed' } });
  await cluster.until('another leads', () => cluster.agreed());
  await cluster.propose(memberOf(cluster, 'member-2'), 'under another leader');
  const texts = memberOf(cluster, 'member-2').machine.texts();
  t.strictSame(
    acknowledged.filter((text) => !texts.includes(text)),
    [],
  );
  t.ok(texts.includes('under another leader'));
  await cluster.close();
});
