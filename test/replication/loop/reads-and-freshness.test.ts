import t from 'tap';
import { Freshness, freshnessRoundsMax } from '../../../src/replication/freshness.js';
import { PendingReads, pendingReadsMax } from '../../../src/replication/pending-reads.js';
import { type Envelope, loopCluster } from '../../support/loop-cluster.js';
import { setCommand } from '../../support/loop-machine.js';

t.test('a read at any member sees what was acknowledged before', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  // b learns of entries, but not yet that they are committed.
  cluster.network = (envelope) => (envelope.to === 'b' && envelope.message.kind === 'raft' ? [] : [envelope]);
  cluster.propose(a, 'p', setCommand('x', '1'));
  const acknowledged = a.machine.index;
  t.ok(b.machine.index < acknowledged);
  cluster.heal();
  b.loop.readIndex('r', 5_000);
  cluster.deliver();
  cluster.until(() => b.reads.has('r'), 'the read');
  t.ok((b.reads.get('r') ?? 0) >= acknowledged);
  t.equal(b.machine.values.get('x'), '1', 'and it is applied');
});

t.test('a read without a quorum ends with null at its time', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  cluster.partition();
  a.loop.readIndex('r', 500);
  cluster.tick(4);
  t.equal(a.reads.has('r'), false);
  cluster.tick(1);
  t.equal(a.reads.get('r'), null);
});

t.test('a lost question is asked anew under another id (etcd #20418)', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c'], { freshnessIntervalMs: 1_000_000 });
  const b = cluster.node('b');
  const ids: string[] = [];
  cluster.network = (envelope) => {
    const { from, message } = envelope;
    if (from !== 'b' || message.kind !== 'raft' || message.message.kind !== 'readIndex') return [envelope];
    ids.push(message.message.readId);
    return ids.length < 3 ? [] : [envelope];
  };
  b.loop.readIndex('r', 60_000);
  cluster.deliver();
  cluster.until(() => b.reads.has('r'), 'the read');
  t.type(b.reads.get('r'), 'number');
  t.equal(ids.length, 3);
  t.equal(new Set(ids).size, 3);
});

t.test('a restarted member asks under ids that it never used', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  const ids: string[] = [];
  cluster.network = (envelope) => {
    const { message } = envelope;
    if (message.kind === 'raft' && message.message.kind === 'readIndex') ids.push(message.message.readId);
    return [envelope];
  };
  cluster.tick(20);
  b.restart();
  cluster.tick(20);
  t.ok(ids.length > 4);
  t.equal(new Set(ids).size, ids.length);
});

t.test('freshness goes on, monotone, at every member, and stops in isolation', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  cluster.tick(30);
  for (const { fresh, loop } of cluster.nodes.values()) {
    t.ok(fresh.length >= 5);
    for (const [place, [asOfMs, index]] of fresh.entries()) {
      const [before, indexBefore] = fresh[place - 1] ?? [0, 0];
      t.ok(asOfMs > before && index >= indexBefore);
    }
    t.ok(cluster.nowMs - (loop.status().freshAsOfMs ?? 0) <= 600);
  }
  cluster.partition(['b', 'c']);
  const a = cluster.node('a');
  const asOfMs = a.loop.status().freshAsOfMs;
  cluster.tick(40);
  t.equal(a.loop.status().freshAsOfMs, asOfMs, 'the leader that was cut off is fresh no more');
  t.ok(cluster.nowMs - (cluster.node('b').loop.status().freshAsOfMs ?? 0) <= 1_000);
  cluster.heal();
  cluster.tick(30);
  t.ok(cluster.nowMs - (a.loop.status().freshAsOfMs ?? 0) <= 600);
});

t.test('an answer that was long on its way makes nobody fresher than when it was asked', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  const held: Envelope[] = [];
  cluster.network = (envelope) => {
    const { message } = envelope;
    if (message.kind !== 'raft' || message.message.kind !== 'readIndexResponse') return [envelope];
    held.push(envelope);
    return [];
  };
  const from = cluster.nowMs;
  cluster.until(() => held.some(({ to }) => to === 'b'), 'an answer to b');
  const until = cluster.nowMs;
  cluster.tick(8);
  for (const envelope of held) cluster.inject(envelope);
  const [asOfMs = 0] = b.fresh.at(-1) ?? [];
  t.ok(asOfMs > from && asOfMs <= cluster.nowMs - 300);
  t.ok(until <= cluster.nowMs);
  const count = b.fresh.length;
  for (const envelope of held) cluster.inject(envelope);
  t.equal(b.fresh.length, count, 'and repeated, it says nothing');
});

t.test('rounds: the newest that is applied counts, older ones never after it', async (t) => {
  const confirmed: (readonly [number, number])[] = [];
  let asked = 0;
  const freshness = new Freshness({
    intervalMs: 500,
    refusalMs: 100,
    ask: () => `${++asked}`,
    confirmed: (asOfMs, index) => confirmed.push([asOfMs, index]),
  });
  for (const nowMs of [0, 499, 500, 1_000, 1_500]) freshness.tick(nowMs);
  t.equal(asked, 4);
  freshness.answered('2', 12, 10, 1_600);
  freshness.answered('3', 11, 10, 1_600);
  t.same(confirmed, [], 'not applied yet');
  freshness.applied(11);
  t.same(confirmed, [[1_000, 11]]);
  freshness.applied(12);
  freshness.answered('1', 12, 12, 1_600);
  t.same(confirmed, [[1_000, 11]], 'older rounds are over');
  freshness.answered('4', 10, 12, 1_600);
  t.same(confirmed.at(-1), [1_500, 11], 'an index never goes back');
});

t.test('rounds: a refusal is followed by another question soon, a flood is bounded', async (t) => {
  let asked = 0;
  const freshness = new Freshness({
    intervalMs: 500,
    refusalMs: 100,
    ask: () => `${++asked}`,
    confirmed: () => {},
  });
  freshness.tick(0);
  freshness.answered('1', null, 0, 10);
  freshness.tick(109);
  t.equal(asked, 1);
  freshness.tick(110);
  t.equal(asked, 2);
  for (let n = 0; n <= freshnessRoundsMax; n += 1) freshness.tick(1_000 * (n + 1));
  freshness.answered('2', 1, 1, 99_000);
  t.equal(freshness.asOfMs, null, 'the oldest is forgotten');
});

t.test('reads: more than are bounded are refused at once', async (t) => {
  const settled = new Map<string, number | null>();
  let asked = 0;
  const reads = new PendingReads({
    silenceTicks: 10,
    refusalTicks: 2,
    ask: () => `${++asked}`,
    settle: (readId, index) => settled.set(readId, index),
  });
  for (let n = 0; n <= pendingReadsMax; n += 1) reads.add(`r${n}`, 1_000);
  t.same([...settled], [[`r${pendingReadsMax}`, null]]);
  reads.answered('1', null, 5);
  reads.tick(0);
  t.equal(asked, pendingReadsMax);
  reads.tick(0);
  t.equal(asked, pendingReadsMax + 1, 'a refusal is asked again');
  reads.answered('1', 3, 5);
  t.equal(settled.has('r0'), false, 'an answer to a question that was given up');
  reads.answered(`${asked}`, 7, 5);
  t.equal(settled.has('r0'), false, 'not applied yet');
  reads.applied(7);
  t.equal(settled.get('r0'), 7);
});
