import t from 'tap';
import { type Envelope, loopCluster } from '../../support/loop-cluster.js';
import { membersCommand, setCommand, unknownCommand } from '../../support/loop-machine.js';

t.test('an entry that can not be applied halts each member there, once', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  const { index } = a.machine;
  a.loop.propose('bad', 'command', unknownCommand, 5_000);
  a.loop.propose('next', 'command', setCommand('x', '1'), 5_000);
  a.loop.readIndex('read', 5_000);
  cluster.deliver();
  cluster.tick(10);
  for (const node of cluster.nodes.values()) {
    t.match(node.halts, [
      new RegExp(`entry ${index + 1} of the log can't be applied.*no such command: unknown`),
    ]);
    t.equal(node.loop.status().halted, node.halts[0]);
    t.equal(node.machine.index, index);
    t.not(node.role, 'leader');
  }
  t.match(a.outcomes.get('bad'), { ok: false, error: { kind: 'closed' } });
  t.match(a.outcomes.get('next'), { ok: false, error: { kind: 'closed' } });
  t.equal(a.reads.get('read'), null);
  b.loop.propose('after', 'command', setCommand('x', '1'), 5_000);
  t.match(b.outcomes.get('after'), { ok: false, error: { kind: 'closed' } });
  // And again after a restart, before anything else.
  cluster.partition();
  a.halts.length = 0;
  a.restart();
  t.equal(a.halts.length, 1);
  t.equal(a.machine.index, index);
});

t.test('one that halts says nothing more, and the others go on', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const c = cluster.node('c');
  const apply = c.machine.apply.bind(c.machine);
  c.machine.apply = (index, command) => {
    if (Buffer.from(command).toString() === 'set x 1') throw new Error('a bug');
    return apply(index, command);
  };
  cluster.propose(cluster.node('a'), 'p', setCommand('x', '1'));
  cluster.until(() => c.halts.length > 0, 'c halts');
  const sent: Envelope[] = [];
  cluster.network = (envelope) => {
    if (envelope.from === 'c') sent.push(envelope);
    return [envelope];
  };
  cluster.propose(cluster.node('b'), 'q', setCommand('y', '1'));
  cluster.tick(30);
  t.equal(sent.length, 0);
  t.equal(cluster.node('b').machine.values.get('y'), '1');
});

t.test('a member that lost what it had acknowledged halts as soon as its leader shows it', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const c = cluster.node('c');
  cluster.propose(cluster.node('a'), 'p', setCommand('x', '1'));
  const { raft } = cluster.node('a').loop.status();
  const heartbeat = { kind: 'heartbeat', to: 'c', term: raft.term, readId: null } as const;
  const from = raft.leader ?? '';
  c.loop.receive(from, {
    kind: 'raft',
    message: { ...heartbeat, from, commitIndex: c.loop.status().raft.lastIndex + 1 },
  });
  t.match(c.halts, [/log ends before entries that it had acknowledged/]);
  t.equal(c.loop.status().raft.lostAcknowledged, true);
  cluster.propose(cluster.node('a'), 'q', setCommand('y', '1'));
  t.equal(c.machine.values.get('y'), undefined);
});

t.test('a log that ends before what was committed halts at the start', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  a.entries.pop();
  a.restart();
  t.match(a.halts, [/the log ends at index \d+, before index \d+, which was committed/]);
  cluster.elect(['b', 'c']);
  t.equal(a.role, 'follower');
});

t.test(
  'whose state differs from the majority leads, reads and is fresh no more; its log goes on',
  async (t) => {
    const cluster = loopCluster(['a', 'b', 'c']);
    const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')];
    c.machine.values.set('x', 'flipped');
    for (let n = 0; n < 8; n += 1) cluster.propose(a, `p${n}`, setCommand('y', `${n}`));
    cluster.tick(20);
    t.match(c.halts, [/state differs from the majority at index \d+/]);
    t.same(c.loop.status().halted, c.halts[0]);
    t.same([a.halts, b.halts], [[], []]);
    for (const node of [a, b]) {
      t.same(node.loop.status().divergent, ['c']);
      t.equal(node.warnings.length, 1);
      t.match(node.warnings, [/the state of node node-c \(member c\) differs/], 'once');
    }
    t.same([...c.loop.status().divergent].sort(), ['a', 'b']);
    const { freshAsOfMs } = c.loop.status();
    // With b away, a needs c: denials must still be taken.
    cluster.partition(['a', 'c']);
    cluster.propose(a, 'deny', setCommand('z', '1'));
    cluster.propose(c, 'forwarded', setCommand('z', '2'));
    t.equal(c.machine.values.get('z'), '2');
    cluster.tick(20);
    t.equal(c.loop.status().freshAsOfMs, freshAsOfMs);
    c.loop.readIndex('r', 5_000);
    t.equal(c.reads.get('r'), null);
    t.equal(c.halts.length, 1);
    // And it never leads.
    cluster.heal();
    cluster.until(() => b.machine.index === a.machine.index, 'b is caught up');
    cluster.partition(['b', 'c']);
    cluster.until(() => b.role === 'leader', 'b leads');
    cluster.partition(['c']);
    cluster.tick(100);
    t.equal(c.role, 'follower');
  },
);

t.test('a leader in the minority steps down', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  a.machine.values.set('x', 'flipped');
  for (let n = 0; n < 8; n += 1) cluster.propose(cluster.node('b'), `p${n}`, setCommand('y', `${n}`));
  cluster.until(() => a.halts.length > 0, 'a halts');
  t.equal(a.role, 'follower');
  t.not(cluster.elect(['b', 'c']).memberId, 'a');
});

t.test(
  'a learner follows the majority of the voters, and without a majority all are only warned',
  async (t) => {
    const cluster = loopCluster(['a', 'b']);
    const [a, b] = [cluster.node('a'), cluster.node('b')];
    const d = cluster.add('d');
    cluster.propose(a, 'add', membersCommand(['a', 'b'], ['d']), 'membership');
    cluster.until(() => d.machine.index === a.machine.index, 'd is caught up');
    b.machine.values.set('x', 'flipped');
    for (let n = 0; n < 8; n += 1) cluster.propose(a, `p${n}`, setCommand('y', `${n}`));
    cluster.tick(20);
    for (const node of cluster.nodes.values()) {
      t.same(node.halts, []);
      t.ok(node.warnings.length > 0);
    }
    b.machine.values.delete('x');
    b.machine.values.set('y', '7');
    d.machine.values.set('x', 'flipped');
    for (let n = 0; n < 8; n += 1) cluster.propose(a, `q${n}`, setCommand('y', `${n}`));
    cluster.tick(20);
    t.equal(d.halts.length, 1);
    t.same([a.halts, b.halts], [[], []]);
    t.same(a.loop.status().divergent, ['d']);
  },
);

t.test(
  "whose state was replaced by the leader's differs no more, and stays out of service until it is started anew",
  async (t) => {
    const cluster = loopCluster(['a', 'b', 'c'], { snapshotEntries: 20 });
    const [a, c] = [cluster.node('a'), cluster.node('c')];
    c.machine.values.set('x', 'flipped');
    for (let n = 0; n < 8; n += 1) cluster.propose(a, `p${n}`, setCommand('y', `${n}`));
    cluster.until(() => c.halts.length > 0, 'c halts');
    cluster.partition(['a', 'b']);
    for (let n = 0; n < 45; n += 1) cluster.propose(a, `q${n}`, setCommand('y', `${n}`));
    cluster.network = (envelope) => (envelope.message.kind === 'report' ? [] : [envelope]);
    cluster.until(() => c.restored.length > 0, 'c is restored');
    t.same(c.loop.status().divergent, []);
    t.type(c.loop.status().halted, 'string');
    cluster.heal();
    for (let n = 0; n < 4; n += 1) cluster.propose(a, `r${n}`, setCommand('y', `${n}`));
    cluster.until(() => a.loop.status().divergent.length === 0, 'c is as the others');
    c.restart();
    cluster.tick(20);
    t.equal(c.loop.status().halted, null);
    t.type(c.loop.status().freshAsOfMs, 'number');
  },
);
