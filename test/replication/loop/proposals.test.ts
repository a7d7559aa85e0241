import t from 'tap';
import { forwardedId } from '../../../src/replication/forwarded-proposals.js';
import type { PeerMessage } from '../../../src/replication/peer-message.js';
import { recentEntriesMax } from '../../../src/replication/recent-entries.js';
import { loopCluster } from '../../support/loop-cluster.js';
import { membersCommand, setCommand } from '../../support/loop-machine.js';
import type { LoopNode } from '../../support/loop-node.js';

function failure(node: LoopNode, proposalId: string): string {
  const outcome = node.outcomes.get(proposalId);
  if (outcome === undefined) return 'none';
  return outcome.ok ? 'ok' : outcome.error.kind;
}

t.test('a sole founder leads from the start and takes proposals', async (t) => {
  const cluster = loopCluster(['a']);
  const a = cluster.node('a');
  a.loop.propose('p', 'command', setCommand('x', '1'), 1_000);
  t.match(a.outcomes.get('p'), { ok: true, value: { index: 3, result: 'set x 1 at 3' } });
});

t.test('a follower forwards to the leader and settles when it is applied there', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  cluster.propose(b, 'p', setCommand('x', '1'));
  t.match(b.outcomes.get('p'), { ok: true, value: { result: `set x 1 at ${b.machine.index}` } });
  cluster.tick(2);
  for (const node of cluster.nodes.values()) t.equal(node.machine.values.get('x'), '1');
});

t.test('what only the leader of one term may append is appended by it, or not taken at once', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  const { term } = a.loop.status().raft;
  const sent: PeerMessage[] = [];
  cluster.network = (envelope) => {
    if (envelope.message.kind === 'propose') sent.push(envelope.message);
    return [envelope];
  };
  const propose = (node: LoopNode, proposalId: string, onlyTerm: number): void =>
    node.loop.propose(proposalId, 'command', setCommand('x', proposalId), 5_000, onlyTerm);
  propose(a, 'here', term);
  cluster.deliver();
  t.match(a.outcomes.get('here'), { ok: true });
  propose(b, 'elsewhere', term);
  t.match(b.outcomes.get('elsewhere'), {
    ok: false,
    error: { kind: 'not-taken', reason: 'this node does not lead any more' },
  });
  a.loop.transferLeadership('b');
  propose(a, 'handed over', term);
  t.equal(failure(a, 'handed over'), 'not-taken');
  cluster.until(() => b.role === 'leader', 'b leads');
  b.loop.transferLeadership('a');
  cluster.until(() => a.role === 'leader', 'a leads again');
  propose(a, 'of before', term);
  t.equal(failure(a, 'of before'), 'not-taken');
  cluster.tick(20);
  t.same(sent, [], 'nobody else is given it');
  t.equal(a.machine.values.get('x'), 'here');
});

t.test('an answer that comes after its entry finds it', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  const held: PeerMessage[] = [];
  cluster.network = (envelope) => {
    if (envelope.message.kind !== 'proposeResponse') return [envelope];
    held.push(envelope.message);
    return [];
  };
  b.loop.propose('p', 'command', setCommand('x', '1'), 5_000);
  cluster.deliver();
  cluster.until(() => b.machine.values.get('x') === '1', 'applied at b');
  t.equal(failure(b, 'p'), 'none');
  for (const message of held) cluster.inject({ from: 'a', to: 'b', message });
  t.match(b.outcomes.get('p'), { ok: true, value: { result: `set x 1 at ${b.machine.index}` } });
});

t.test('an answer that comes long after its entry says nothing any more', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  const held: PeerMessage[] = [];
  cluster.network = (envelope) => {
    if (envelope.message.kind !== 'proposeResponse') return [envelope];
    held.push(envelope.message);
    return [];
  };
  b.loop.propose('p', 'command', setCommand('x', '1'), 1_000_000);
  cluster.deliver();
  for (let n = 0; n < recentEntriesMax; n += 1) cluster.propose(a, `p${n}`, setCommand('y', '1'));
  cluster.until(() => b.machine.index === a.machine.index, 'b is caught up');
  for (const message of held) cluster.inject({ from: 'a', to: 'b', message });
  t.equal(failure(b, 'p'), 'unknown');
});

t.test('without a leader a proposal waits for one, and is not taken when none comes', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  cluster.partition(['a'], ['b'], ['c']);
  cluster.until(() => b.loop.status().raft.leader === null, 'b misses the leader');
  b.loop.propose('late', 'command', setCommand('x', '1'), 500);
  b.loop.propose('patient', 'command', setCommand('y', '1'), 20_000);
  cluster.tick(6);
  t.match(b.outcomes.get('late'), { ok: false, error: { kind: 'not-taken', reason: 'no leader is known' } });
  cluster.heal();
  cluster.until(() => b.outcomes.has('patient'), 'the outcome');
  t.equal(failure(b, 'patient'), 'ok');
  t.equal(b.machine.values.has('x'), false);
});

t.test('what a silent leader was sent is sent to no other', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  cluster.network = ({ message, ...way }) => (message.kind === 'propose' ? [] : [{ message, ...way }]);
  b.loop.propose('p', 'command', setCommand('x', '1'), 5_000);
  cluster.deliver();
  cluster.partition(['b', 'c']);
  cluster.until(() => cluster.elect(['b', 'c']).memberId !== 'a', 'another leader');
  cluster.until(() => b.outcomes.has('p'), 'the outcome');
  t.equal(failure(b, 'p'), 'unknown');
  t.equal(b.machine.values.has('x'), false, 'it was sent to nobody else');
});

t.test(
  'a proposal of a leader that is cut off is lost for certain once another entry is committed in its place',
  async (t) => {
    const cluster = loopCluster(['a', 'b', 'c']);
    const a = cluster.node('a');
    cluster.partition(['a'], ['b', 'c']);
    a.loop.propose('p', 'command', setCommand('x', '1'), 60_000);
    cluster.elect(['b', 'c']);
    cluster.propose(cluster.node('b'), 'q', setCommand('y', '1'));
    t.equal(failure(a, 'p'), 'none');
    cluster.heal();
    cluster.until(() => a.outcomes.has('p'), 'the outcome');
    t.equal(failure(a, 'p'), 'not-taken');
  },
);

t.test('what no quorum confirms in time is unknown', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  cluster.partition(['a'], ['b'], ['c']);
  a.loop.propose('p', 'command', setCommand('x', '1'), 300);
  cluster.tick(2);
  t.equal(failure(a, 'p'), 'none');
  cluster.tick(1);
  t.equal(failure(a, 'p'), 'unknown');
});

t.test('a forwarded proposal that is delivered twice is appended once', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  cluster.network = (envelope) => (envelope.message.kind === 'propose' ? [envelope, envelope] : [envelope]);
  cluster.propose(b, 'p', setCommand('x', '1'));
  cluster.tick(3);
  t.equal(a.machine.applied.filter((text) => text === 'set x 1').length, 1);
});

t.test(
  'a forwarded proposal from an earlier term is not appended by the leader of a later one',
  async (t) => {
    const cluster = loopCluster(['a', 'b', 'c']);
    const { term } = cluster.node('a').loop.status().raft;
    const sent: PeerMessage[] = [];
    cluster.network = (envelope) => {
      if (envelope.from === 'a' && envelope.message.kind === 'proposeResponse') sent.push(envelope.message);
      return [envelope];
    };
    const forward = (of: number): void =>
      cluster.inject({
        from: 'b',
        to: 'a',
        message: {
          kind: 'propose',
          proposalId: forwardedId(of, 'b/1'),
          entryKind: 'command',
          command: setCommand('x', String(of)),
        },
      });
    forward(term - 1);
    t.same(sent, [], 'nor refused: it started in that term');
    forward(term);
    t.match(sent, [{ position: { term } }]);
    cluster.tick(2);
    t.equal(cluster.node('a').machine.values.get('x'), String(term));
  },
);

t.test('a refusal by the leader is no end: it is asked again', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  let refused = 0;
  cluster.network = (envelope) => {
    const { from, to, message } = envelope;
    if (message.kind !== 'propose' || refused > 0) return [envelope];
    refused += 1;
    const { proposalId } = message;
    return [
      {
        from: to,
        to: from,
        message: { kind: 'proposeResponse', proposalId, position: null, reason: 'busy' },
      },
    ];
  };
  cluster.propose(b, 'p', setCommand('x', '1'));
  t.equal(refused, 1);
  t.equal(failure(b, 'p'), 'ok');
});

t.test('an answer counts only from the one that was asked', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const b = cluster.node('b');
  let id = '';
  cluster.network = (envelope) => {
    if (envelope.message.kind === 'propose') id = envelope.message.proposalId;
    return envelope.message.kind === 'propose' ? [] : [envelope];
  };
  b.loop.propose('p', 'command', setCommand('x', '1'), 500);
  const { index, term } = { index: b.machine.index, term: b.loop.status().raft.term };
  cluster.inject({
    from: 'c',
    to: 'b',
    message: { kind: 'proposeResponse', proposalId: id, position: { index, term }, reason: '' },
  });
  t.equal(failure(b, 'p'), 'none');
  cluster.tick(5);
  t.equal(failure(b, 'p'), 'unknown');
});

t.test('limits: too many at once, too long', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  cluster.partition();
  for (let n = 0; n < 9; n += 1) a.loop.propose(`p${n}`, 'command', setCommand('x', '1'), 1_000);
  t.equal(failure(a, 'p7'), 'none');
  t.equal(failure(a, 'p8'), 'overloaded');
  a.loop.propose('long', 'command', new Uint8Array(64 * 1024 + 1), 1_000);
  t.equal(failure(a, 'long'), 'too-large');
});

t.test('changes of the members wait for each other', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  a.loop.propose('one', 'membership', membersCommand(['a', 'b', 'c'], ['d']), 5_000);
  a.loop.propose('two', 'membership', membersCommand(['a', 'b', 'c'], ['e']), 5_000);
  b.loop.propose('three', 'membership', membersCommand(['a', 'b', 'c']), 5_000);
  cluster.until(() => a.outcomes.has('two') && b.outcomes.has('three'), 'all outcomes');
  t.same([failure(a, 'one'), failure(a, 'two'), failure(b, 'three')], ['ok', 'ok', 'ok']);
});

t.test('a stopped loop settles what waits, as far as it is certain', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const a = cluster.node('a');
  const c = cluster.node('c');
  cluster.partition();
  a.loop.propose('appended', 'command', setCommand('x', '1'), 9_000);
  a.loop.readIndex('read', 9_000);
  cluster.until(() => c.loop.status().raft.leader === null, 'c misses the leader');
  c.loop.propose('idle', 'command', setCommand('x', '1'), 9_000);
  a.loop.stop();
  c.loop.stop();
  t.equal(failure(a, 'appended'), 'unknown');
  t.equal(a.reads.get('read'), null);
  t.equal(failure(c, 'idle'), 'not-taken');
  const applied = a.applied.length;
  a.loop.propose('after', 'command', setCommand('x', '1'), 9_000);
  t.equal(failure(a, 'after'), 'closed');
  cluster.heal();
  cluster.tick(20);
  t.equal(a.applied.length, applied, 'nothing happens after the stop');
});
