import t from 'tap';
import { Applier } from '../../../src/replication/applier.js';
import { type Envelope, LoopCluster, loopCluster } from '../../support/loop-cluster.js';
import { LoopMachine, membersCommand, setCommand } from '../../support/loop-machine.js';

// That nothing is sent or applied before what it rests upon is durable, LoopNode checks in every test. Here the disk is
// slow, so that there is a time between.

t.test('a leader sends and applies what it appended only once it is durable', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  const sent: Envelope[] = [];
  cluster.network = (envelope) => {
    if (envelope.from === 'a' && envelope.message.kind === 'raft') sent.push(envelope);
    return [envelope];
  };
  a.slowDisk = true;
  const { index } = a.machine;
  a.loop.propose('p', 'command', setCommand('x', '1'), 5_000);
  cluster.deliver();
  t.equal(sent.length, 0);
  t.equal(a.writes.length, 1);
  a.loop.propose('q', 'command', setCommand('y', '1'), 5_000);
  cluster.tick(1);
  t.equal(a.writes.length, 1, 'one write at a time');
  a.finishWrites();
  cluster.deliver();
  t.ok(sent.length > 0);
  t.equal(a.machine.index, index, 'that it is committed is not durable yet');
  t.match(a.batches.at(-1), { entries: [{ index: index + 2 }] }, 'and goes with what came meanwhile');
  a.finishWrites();
  t.equal(a.machine.index, index);
  t.match(a.batches.at(-1), { hardState: { commitIndex: index + 1 } });
  a.finishWrites();
  t.equal(a.machine.index, index + 1);
  a.slowDisk = false;
  a.finishWrites();
  cluster.deliver();
  cluster.until(() => a.outcomes.has('q'), 'the outcome');
  t.equal(a.outcomes.get('q')?.ok, true);
});

t.test('a follower acknowledges only what is durable', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')];
  b.slowDisk = true;
  c.slowDisk = true;
  a.loop.propose('p', 'command', setCommand('x', '1'), 5_000);
  cluster.deliver();
  cluster.tick(2);
  t.equal(a.outcomes.has('p'), false);
  b.finishWrites();
  cluster.deliver();
  t.equal(a.outcomes.get('p')?.ok, true);
});

t.test('a vote is durable before it is sent', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  cluster.partition(['b', 'c']);
  const [b, c] = [cluster.node('b'), cluster.node('c')];
  for (const node of [b, c]) node.slowDisk = true;
  cluster.until(() => [b, c].some(({ role }) => role === 'candidate'), 'a candidate');
  const [candidate, voter] = b.role === 'candidate' ? [b, c] : [c, b];
  candidate.finishWrites();
  cluster.deliver();
  t.equal(voter.writes.length, 1, 'term and vote are on their way to the disk');
  t.equal(candidate.role, 'candidate');
  voter.finishWrites();
  cluster.deliver();
  t.equal(candidate.role, 'leader');
});

t.test(
  'what was acknowledged is there after a restart, and applied from the log before anything else',
  async (t) => {
    const cluster = loopCluster(['a', 'b', 'c']);
    cluster.propose(cluster.node('a'), 'p', setCommand('x', '1'));
    cluster.tick(3);
    for (const node of cluster.nodes.values()) {
      const { commitIndex } = node.hardState;
      node.memberships.length = 0;
      cluster.partition();
      node.restart();
      t.equal(node.applied.length, commitIndex);
      t.equal(node.machine.values.get('x'), '1');
      t.same(node.memberships, [{ voters: ['a', 'b', 'c'], learners: [] }]);
    }
  },
);

t.test(
  'entries beyond the commit index are not applied at the start, and are once a quorum has them',
  async (t) => {
    const cluster = loopCluster(['a', 'b', 'c']);
    const a = cluster.node('a');
    cluster.partition();
    a.loop.propose('p', 'command', setCommand('x', '1'), 5_000);
    const { index } = a.machine;
    t.equal(a.lastDurable, index + 1);
    a.restart();
    t.equal(a.machine.index, index);
    cluster.heal();
    cluster.elect();
    cluster.tick(5);
    t.equal(a.machine.values.get('x'), a === cluster.leader ? '1' : undefined);
  },
);

t.test(
  'a founder that is alone leads again at once after a restart, with all that it acknowledged',
  async (t) => {
    const cluster = loopCluster(['a']);
    const a = cluster.node('a');
    cluster.propose(a, 'p', setCommand('x', '1'));
    a.restart();
    t.equal(a.role, 'leader');
    t.equal(a.machine.values.get('x'), '1');
  },
);

t.test('a joiner does nothing until it hears of a leader', async (t) => {
  const cluster = new LoopCluster();
  const sent: Envelope[] = [];
  cluster.network = (envelope) => {
    sent.push(envelope);
    return [envelope];
  };
  const d = cluster.add('d');
  cluster.tick(200);
  t.equal(d.loop.status().raft.term, 0);
  t.equal(sent.length, 0);
  t.same(d.memberships, []);
});

t.test('members come as learners, are promoted, and go', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  t.same(a.memberships.at(-1), { voters: ['a', 'b', 'c'], learners: [] });
  t.equal(a.memberships.length, 5, 'known, then four changes');
  cluster.propose(a, 'set', setCommand('x', '1'));
  t.equal(a.memberships.length, 5);
  // The leader itself goes.
  cluster.propose(b, 'remove', membersCommand(['b', 'c']), 'membership');
  cluster.until(() => cluster.elect(['b', 'c']).memberId !== 'a', 'another leader');
  cluster.propose(b, 'p', setCommand('y', '1'));
  t.same(b.memberships.at(-1), { voters: ['b', 'c'], learners: [] });
  t.equal(cluster.node('c').machine.values.get('x'), '1');
});

t.test('leadership is handed over when asked', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  t.equal(cluster.node('b').loop.transferLeadership('c'), false, 'only by the leader');
  t.equal(cluster.node('a').loop.transferLeadership('x'), false, 'only to a voter');
  t.equal(cluster.node('a').loop.transferLeadership('c'), true);
  cluster.deliver();
  t.equal(cluster.elect().memberId, 'c');
});

t.test('a leader whose disk stalls steps down, and leads again when it is well', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  a.slowDisk = true;
  a.loop.propose('p', 'command', setCommand('x', '1'), 60_000);
  cluster.until(() => cluster.elect(['b', 'c']).memberId !== 'a', 'another leader');
  cluster.until(() => a.warnings.length > 0, 'a warning');
  t.equal(a.role, 'follower');
  t.match(a.warnings, [/the disk did not finish a write within 1000 ms/]);
  a.slowDisk = false;
  a.finishWrites();
  cluster.until(() => a.machine.index === cluster.leader?.machine.index, 'a catches up');
  cluster.leader?.loop.transferLeadership('a');
  cluster.deliver();
  t.equal(cluster.elect().memberId, 'a');
});

t.test('who is called back may call in: it is done after what is being done', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  const seen: number[] = [];
  a.onApplied = ({ index }) => {
    seen.push(index);
    if (seen.length < 4) a.loop.propose(`then ${index}`, 'command', setCommand('x', `${index}`), 5_000);
    a.loop.readIndex(`read ${index}`, 5_000);
    a.loop.tick();
  };
  const { index } = a.machine;
  cluster.propose(a, 'p', setCommand('x', '1'));
  cluster.until(() => seen.length === 4, 'four entries');
  t.same(seen, [index + 1, index + 2, index + 3, index + 4]);
});

t.test("the command is the caller's again as soon as it is proposed", async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  cluster.partition();
  cluster.until(() => b.loop.status().raft.leader === null, 'b misses the leader');
  const command = setCommand('x', '1');
  b.loop.propose('p', 'command', command, 60_000);
  command.fill(0);
  cluster.heal();
  cluster.until(() => b.outcomes.has('p'), 'the outcome');
  t.equal(b.machine.values.get('x'), '1');
});

t.test('a member speaks for itself only', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  const { term } = b.loop.status().raft;
  const message = {
    kind: 'heartbeat',
    from: 'a',
    to: 'b',
    term: term + 5,
    commitIndex: 0,
    readId: null,
  } as const;
  cluster.inject({ from: 'c', to: 'b', message: { kind: 'raft', message } });
  t.equal(b.loop.status().raft.term, term);
  cluster.inject({ from: 'a', to: 'b', message: { kind: 'raft', message } });
  t.equal(b.loop.status().raft.term, term + 5);
});

t.test('a state machine may hand out who the members are as its own', async (t) => {
  const machine = new LoopMachine();
  machine.members = { voters: ['a'], learners: [] };
  const applier = new Applier(machine, { voters: [], learners: [] }, { index: 0, term: 0 });
  const voters = machine.members.voters as string[];
  voters.push('b');
  t.equal(applier.refreshMembership(), true);
  t.same(applier.membership, { voters: ['a', 'b'], learners: [] });
  t.equal(applier.refreshMembership(), false);
});
