import t from 'tap';
import { err, ok, type Result } from '../../../src/base/result.js';
import type { LogPosition, ProposeError } from '../../../src/raft/types.js';
import { ForwardedProposals, forwardedAnswersMax } from '../../../src/replication/forwarded-proposals.js';
import type { PeerMessage } from '../../../src/replication/peer-message.js';
import { type LoopCluster, loopCluster } from '../../support/loop-cluster.js';
import { setCommand } from '../../support/loop-machine.js';

type Appended = Result<LogPosition, ProposeError>;

const taken = (index: number, term: number) => (): Appended => ok({ index, term });
const refused = (): Appended => err({ kind: 'not-leader', leader: null });
const never = (): Appended => {
  throw new Error('it is not appended');
};

t.test('a copy gets the answer that the first one got, in later terms as well', async (t) => {
  const forwarded = new ForwardedProposals(3);
  const position = { index: 7, term: 4 };
  t.same(forwarded.take('b', '4/x/1', 4, taken(7, 4)), { position, reason: '' });
  t.match(forwarded.take('b', '4/x/2', 4, refused), { position: null });
  for (const term of [4, 5, 9]) {
    t.same(forwarded.take('b', '4/x/1', term, never), { position, reason: '' });
    t.match(
      forwarded.take('b', '4/x/2', term, never),
      { position: null },
      'and was promised that it never is',
    );
  }
  t.match(forwarded.take('c', '4/x/1', 4, taken(8, 4)), { position: { index: 8 } }, 'another member’s');
});

t.test('only a member that is sure that it took no copy refuses', async (t) => {
  const forwarded = new ForwardedProposals(3);
  // It was there all through term 4, and remembers all that it took.
  t.match(forwarded.take('b', '4/x/1', 5, never), { position: null });
  t.match(forwarded.take('b', '5/x/1', 5, refused), { position: null });
  // In term 3 or before it may have been leader until it was started anew.
  t.equal(forwarded.take('b', '3/x/1', 5, never), null);
  t.equal(forwarded.take('b', '2/x/1', 5, never), null);
  t.equal(new ForwardedProposals(3).take('b', '3/x/1', 3, refused), null);
  // It may come to lead term 6, and a copy may come then.
  t.equal(forwarded.take('b', '6/x/1', 5, never), null);
  t.equal(forwarded.take('b', 'x', 5, never), null);
});

t.test('nor does one that has forgotten what it answered', async (t) => {
  const forwarded = new ForwardedProposals(3);
  for (let n = 0; n < forwardedAnswersMax; n += 1) forwarded.take('b', `4/x/${n}`, 4, taken(n, 4));
  t.match(forwarded.take('b', '4/x/new', 5, never), { position: null }, 'all is remembered');
  t.match(forwarded.take('b', '5/x/0', 5, taken(0, 5)), { position: { term: 5 } });
  t.equal(forwarded.take('b', '4/x/0', 5, never), null);
  t.match(forwarded.take('b', '4/x/1', 5, never), { position: { index: 1 } });
  t.match(forwarded.take('b', '5/x/1', 6, never), { position: null }, 'of term 5 all is remembered');
});

/** `b` proposes `p` to the leader `a`, who takes it; the answer is lost. What was sent. */
function proposeUnanswered(cluster: LoopCluster): PeerMessage {
  const sent: PeerMessage[] = [];
  cluster.network = (envelope) => {
    if (envelope.message.kind === 'propose') sent.push(envelope.message);
    return envelope.message.kind === 'proposeResponse' ? [] : [envelope];
  };
  const b = cluster.node('b');
  b.loop.propose('p', 'command', setCommand('x', '1'), 60_000);
  cluster.deliver();
  const [message] = sent;
  if (message === undefined) throw new Error('nothing was forwarded');
  return message;
}

t.test('what was taken is not called lost by the one that took it, once it leads no more', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  const copy = proposeUnanswered(cluster);
  a.loop.transferLeadership('c');
  cluster.deliver();
  cluster.until(() => a.loop.status().raft.leader === 'c', 'c leads');
  cluster.heal();
  cluster.inject({ from: 'b', to: 'a', message: copy });
  cluster.until(() => b.outcomes.has('p'), 'the outcome');
  t.match(b.outcomes.get('p'), { ok: true });
  t.same(
    b.machine.applied.filter((text) => text === 'set x 1'),
    ['set x 1'],
  );
});

t.test('nor once it was started anew', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const [a, b] = [cluster.node('a'), cluster.node('b')];
  const copy = proposeUnanswered(cluster);
  cluster.heal();
  const term = a.loop.status().raft.term;
  a.restart();
  t.equal(a.loop.status().raft.term, term);
  cluster.inject({ from: 'b', to: 'a', message: copy });
  cluster.until(() => b.outcomes.has('p'), 'the outcome', 1_000);
  t.match(b.outcomes.get('p'), { ok: false, error: { kind: 'unknown' } });
  t.equal(b.machine.values.get('x'), '1');
});
