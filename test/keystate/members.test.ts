import t from 'tap';
import { clusterLimits } from '../../src/keystate/cluster-types.js';
import { KeyState } from '../../src/keystate/key-state.js';
import type { CommandRefusal } from '../../src/keystate/types.js';
import {
  type CommandBody,
  FoundedCluster,
  hourMs,
  requestIdAt,
  startMs,
} from '../support/founded-cluster.js';

const secret = 'ab'.repeat(32);
const otherSecret = 'cd'.repeat(32);

const invite = (id: string, expiresAtMs = startMs + hourMs): CommandBody => ({
  type: 'member.add',
  memberId: `m-${id}`,
  name: `node-${id}`,
  address: `${id}.example:7946`,
  joinSecretDigest: secret,
  expiresAtMs,
});

const join = (id: string, joinSecretDigest = secret): CommandBody => ({
  type: 'member.join',
  memberId: `m-${id}`,
  joinSecretDigest,
  address: `joined-${id}.example:7946`,
});

const byId = (type: 'member.promote' | 'member.remove', id: string): CommandBody => ({
  type,
  memberId: `m-${id}`,
});

/** Three voters: a, b, c. */
function threeVoters(): FoundedCluster {
  const cluster = new FoundedCluster();
  for (const id of ['b', 'c']) {
    cluster.done(invite(id));
    cluster.done(join(id));
    cluster.done(byId('member.promote', id));
  }
  return cluster;
}

t.test('a new cluster has its founder as the only voter, and format 2', async (t) => {
  const { state } = new FoundedCluster();
  t.strictSame(state.member('m-a'), {
    memberId: 'm-a',
    name: 'node-a',
    address: 'a.example:7946',
    status: 'voter',
    joinSecretDigest: null,
    invitedAtMs: startMs,
    inviteExpiresAtMs: startMs,
    joinedIndex: 1,
    revision: 1,
  });
  t.strictSame(state.cluster(), { clusterId: 'c-1', nodeName: 'node-a', createdAtMs: startMs });
  t.equal(state.activeFormat(), 2);
  t.strictSame(state.membership(), { voters: ['m-a'], learners: [] });
});

t.test('invited, learner, voter', async (t) => {
  const cluster = new FoundedCluster();
  const { state } = cluster;
  t.strictSame(cluster.apply(invite('b')), { ok: true, revision: 2 });
  t.match(state.memberByName('node-b'), {
    memberId: 'm-b',
    status: 'invited',
    joinSecretDigest: secret,
    inviteExpiresAtMs: startMs + hourMs,
    joinedIndex: null,
  });
  t.strictSame(state.membership(), { voters: ['m-a'], learners: [] }, 'an invited node is in neither');
  t.strictSame(cluster.apply(join('b')), { ok: true, revision: 3 });
  t.match(state.member('m-b'), {
    status: 'learner',
    address: 'joined-b.example:7946',
    joinedIndex: 3,
  });
  t.strictSame(state.membership(), { voters: ['m-a'], learners: ['m-b'] });
  t.strictSame(cluster.apply(byId('member.promote', 'b')), { ok: true, revision: 4 });
  t.equal(state.member('m-b')?.joinSecretDigest, null, 'a voter needs no token any more');
  t.strictSame(state.membership(), { voters: ['m-a', 'm-b'], learners: [] });
  t.strictSame(cluster.apply(byId('member.promote', 'b')), { ok: true, revision: 4 }, 'it is one already');
  t.strictSame(
    [...state.members()].map(({ name }) => name),
    ['node-a', 'node-b'],
  );
});

t.test('members are told in the order in which they joined, not in that of their invitations', async (t) => {
  const cluster = new FoundedCluster();
  for (const id of ['b', 'c', 'd']) cluster.done(invite(id));
  for (const id of ['d', 'b', 'c']) cluster.done(join(id));
  t.strictSame(cluster.state.membership(), { voters: ['m-a'], learners: ['m-d', 'm-b', 'm-c'] });
  for (const id of ['c', 'd']) cluster.done(byId('member.promote', id));
  t.strictSame(cluster.state.membership(), { voters: ['m-a', 'm-d', 'm-c'], learners: ['m-b'] });
});

t.test('a member that leaves is a former one, for good', async (t) => {
  const cluster = threeVoters();
  const { state } = cluster;
  const revision = cluster.done(byId('member.remove', 'a'));
  t.strictSame(state.membership(), { voters: ['m-b', 'm-c'], learners: [] }, 'the founder may go too');
  const former = {
    memberId: 'm-a',
    name: 'node-a',
    removedAtMs: startMs,
    reason: 'removed',
    destroyed: false,
    revision,
  };
  t.strictSame([...state.formerMembers()], [former]);
  t.strictSame(cluster.apply(byId('member.remove', 'a')), { ok: true, revision }, 'a repeat is no failure');
  t.match(cluster.apply({ ...invite('a') }), { ok: false, error: { code: 'conflict', message: /for good/ } });
  t.match(cluster.apply(join('a')), { ok: false, error: { message: /was removed, for good/ } });
  cluster.done({ ...invite('a'), memberId: 'm-a2' } as CommandBody);
  t.equal(state.memberByName('node-a')?.memberId, 'm-a2', 'its name may be used again');
  const forget = (member: string): CommandBody => ({ type: 'member.forget', member, destroyed: true });
  t.match(cluster.apply({ type: 'member.forget', member: 'm-a', destroyed: false }), {
    ok: false,
    error: { code: 'invalid', message: /--destroyed/ },
  });
  const forgotten = cluster.done(forget('node-a'));
  t.strictSame([...state.formerMembers()], [{ ...former, destroyed: true, revision: forgotten }]);
  t.strictSame(cluster.apply(forget('m-a')), { ok: true, revision: forgotten });
  t.match(cluster.apply(forget('node-b')), {
    ok: false,
    error: { code: 'conflict', message: /is a member/ },
  });
  t.match(cluster.apply(forget('nobody')), { ok: false, error: { code: 'not-found' } });
});

t.test('who never joined leaves nothing behind', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(invite('b'));
  cluster.done(byId('member.remove', 'b'));
  t.equal(cluster.state.member('m-b'), null);
  t.strictSame([...cluster.state.formerMembers()], []);
  t.match(cluster.apply(join('b')), { ok: false, error: { code: 'not-found' } });
});

t.test('a join token is good for one member until it votes, or until its time is over', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(invite('b'));
  t.match(cluster.apply(join('b', otherSecret)), {
    ok: false,
    error: { code: 'conflict', message: /not the one made for member "node-b"/ },
  });
  const late = { atMs: startMs + hourMs };
  t.match(cluster.apply(join('b'), late), {
    ok: false,
    error: { code: 'expired', message: /xksctl cluster add/ },
  });
  t.match(cluster.apply(join('b'), { atMs: startMs + hourMs - 1 }), { ok: true });
  const { revision } = cluster.state.member('m-b') ?? {};
  t.strictSame(
    cluster.apply(join('b')),
    { ok: true, revision },
    'a learner whose answer was lost asks again',
  );
  t.match(cluster.apply(join('b', otherSecret)), { ok: false, error: { code: 'conflict' } });
  cluster.done(byId('member.promote', 'b'));
  t.match(cluster.apply(join('b')), { ok: false, error: { code: 'conflict', message: /is used/ } });
  cluster.done(invite('c'));
  const again = { ...invite('c', startMs + 3 * hourMs), memberId: 'm-c2', joinSecretDigest: otherSecret };
  t.match(cluster.apply(again as CommandBody), { ok: false, error: { code: 'already-exists' } });
  cluster.done(again as CommandBody, late);
  t.equal(cluster.state.member('m-c'), null, 'a name whose token expired is invited anew');
  t.equal(cluster.state.memberByName('node-c')?.memberId, 'm-c2');
});

t.test('nothing is decided without a voter', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(invite('b'));
  cluster.done(join('b'));
  t.match(cluster.apply(byId('member.remove', 'a')), {
    ok: false,
    error: { code: 'conflict', message: /last voter/ },
  });
  t.match(cluster.apply(byId('member.remove', 'b')), { ok: true }, 'a learner may go');
  t.strictSame(cluster.state.membership(), { voters: ['m-a'], learners: [] });
});

t.test('limits of members and former members', async (t) => {
  const cluster = new FoundedCluster();
  const ids = Array.from({ length: clusterLimits.membersMax - 1 }, (_, place) => `${place}`);
  for (const id of ids) cluster.done(invite(id));
  t.match(cluster.apply(invite('x')), { ok: false, error: { code: 'limit', message: /9 members/ } });
  for (const id of ids) cluster.done(byId('member.remove', id));
  const leave = (id: string) => {
    cluster.done(invite(id));
    cluster.done(join(id));
    return cluster.apply(byId('member.remove', id));
  };
  for (let count = 0; count < clusterLimits.formerMembersMax; count += 1) {
    t.match(leave(`f${count}`), { ok: true });
  }
  t.match(leave('g'), { ok: false, error: { code: 'limit', message: /64 former members/ } });
  t.equal(cluster.state.member('m-g')?.status, 'learner');
  cluster.done({ type: 'member.forget', member: 'node-f7', destroyed: true });
  cluster.done(byId('member.remove', 'g'));
  const formers = [...cluster.state.formerMembers()];
  t.equal(formers.length, clusterLimits.formerMembersMax);
  t.notOk(
    formers.some(({ memberId }) => memberId === 'm-f7'),
    'one that is destroyed makes room',
  );
});

t.test('a founder from before there were members registers itself', async (t) => {
  const state = new KeyState();
  const envelope = (number: number) => ({ requestId: requestIdAt(startMs, number), atMs: startMs, by: '' });
  const register = { type: 'member.register', memberId: 'm-a', name: 'node-a', address: 'a:1' } as const;
  state.apply(1, { ...envelope(1), type: 'cluster.init', clusterId: 'c-1', nodeName: 'node-a' });
  t.equal(state.membership(), null);
  state.apply(2, { ...envelope(2), type: 'cluster.upgrade', format: 2 });
  t.match(state.apply(3, { ...envelope(3), ...invite('b') } as never), {
    ok: false,
    error: { code: 'conflict', message: /no members yet/ },
  });
  t.strictSame(state.apply(4, { ...envelope(4), ...register }), { ok: true, revision: 4 });
  t.strictSame(state.membership(), { voters: ['m-a'], learners: [] });
  t.match(state.apply(5, { ...envelope(5), ...register, memberId: 'm-b' }), {
    ok: false,
    error: { code: 'already-exists', message: /members already, such as "node-a"/ },
  });
});

t.test('an address changes', async (t) => {
  const cluster = new FoundedCluster();
  const update = (address: string): CommandBody => ({ type: 'member.update', memberId: 'm-a', address });
  t.strictSame(cluster.apply(update('new.example:1')), { ok: true, revision: 2 });
  t.equal(cluster.state.member('m-a')?.address, 'new.example:1');
  t.strictSame(cluster.apply(update('new.example:1')), { ok: true, revision: 2 }, 'unchanged');
  t.match(cluster.apply({ type: 'member.update', memberId: 'm-x', address: 'a:1' }), {
    ok: false,
    error: { code: 'not-found' },
  });
});

const invalid: readonly { readonly name: string; readonly body: CommandBody; readonly message: RegExp }[] = [
  { name: 'no port', body: { ...invite('b'), address: 'b.example' } as CommandBody, message: /host:port/ },
  { name: 'port 0', body: { ...invite('b'), address: 'b:0' } as CommandBody, message: /host:port/ },
  { name: 'port 65536', body: { ...invite('b'), address: 'b:65536' } as CommandBody, message: /host:port/ },
  { name: 'IPv6 bare', body: { ...invite('b'), address: '::1:7946' } as CommandBody, message: /host:port/ },
  { name: 'a URL', body: { ...invite('b'), address: 'http://b:1' } as CommandBody, message: /host:port/ },
  { name: 'a bad id', body: { ...invite('b'), memberId: 'm b' } as CommandBody, message: /member id has/ },
  { name: 'a bad name', body: { ...invite('b'), name: '-b' } as CommandBody, message: /node name has/ },
  {
    name: 'a secret in clear',
    body: { ...invite('b'), joinSecretDigest: 'secret' } as CommandBody,
    message: /digest of a join secret/,
  },
  { name: 'expired at once', body: invite('b', startMs), message: /expires in the future/ },
  {
    name: 'an invitation for ever',
    body: invite('b', startMs + clusterLimits.inviteLifetimeMsMax + 1),
    message: /7 days at most/,
  },
];

for (const { name, body, message } of invalid) {
  t.test(`no member: ${name}`, async (t) => {
    const cluster = new FoundedCluster();
    t.match(cluster.apply(body), { ok: false, error: { code: 'invalid', message } });
    t.equal([...cluster.state.members()].length, 1);
  });
}

const refusals: readonly {
  readonly name: string;
  readonly body: CommandBody;
  readonly code: CommandRefusal['code'];
}[] = [
  { name: 'an id twice', body: { ...invite('b'), name: 'node-x' } as CommandBody, code: 'already-exists' },
  { name: 'a name twice', body: { ...invite('x'), name: 'node-b' } as CommandBody, code: 'already-exists' },
  { name: 'joining uninvited', body: join('x'), code: 'not-found' },
  { name: 'promoting nobody', body: byId('member.promote', 'x'), code: 'not-found' },
  { name: 'removing nobody', body: byId('member.remove', 'x'), code: 'not-found' },
  {
    name: 'a second cluster',
    body: { type: 'cluster.init', clusterId: 'c-2', nodeName: 'n' },
    code: 'already-exists',
  },
];

for (const { name, body, code } of refusals) {
  t.test(`refused: ${name}`, async (t) => {
    const cluster = threeVoters();
    t.match(cluster.apply(body), { ok: false, error: { code } });
    t.strictSame(cluster.state.membership(), { voters: ['m-a', 'm-b', 'm-c'], learners: [] });
  });
}

t.test('an invited node is not promoted', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(invite('b'));
  t.match(cluster.apply(byId('member.promote', 'b')), {
    ok: false,
    error: { code: 'conflict', message: /has not joined yet/ },
  });
});
