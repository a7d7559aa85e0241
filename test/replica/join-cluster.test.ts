import t, { type Test } from 'tap';
import { type Welcome, Welcomes } from '../../src/replica/join-cluster.js';
import { encodeJoinToken, parseJoinToken } from '../../src/replica/join-token.js';
import type { JoinRequest } from '../../src/replication/transport/peer-server.js';
import { foundedReplica } from './replica-at-seams.js';

/** A cluster of node-1 that invited node-2, and what node-2 then shows. */
async function inviting(t: Test) {
  const replica = await foundedReplica(t);
  const { run } = replica;
  const added = await run('cluster.add', { name: 'node-2', address: 'node-2:7443' });
  const token = added.ok ? parseJoinToken(added.value.joinToken) : null;
  if (token?.ok !== true) throw new Error('node-2 was not invited');
  const { memberId, secret, clusterId } = token.value;
  const request: JoinRequest = {
    clusterId,
    memberId,
    nodeName: 'node-2',
    advertise: 'node-2:7443',
    secret,
    formatMin: 1,
    formatMax: 2,
  };
  return { replica, request };
}

t.test('whoever shows the secret of its invitation is let in, again as well', async (t) => {
  const { replica, request } = await inviting(t);
  const welcomes = new Welcomes(() => replica.log.machine.state, replica.proposer, replica.clock);
  const expected: Welcome = {
    members: [
      { memberId: replica.cluster.memberId, name: 'node-1', address: 'node-1:7443' },
      { memberId: request.memberId, name: 'node-2', address: 'node-2:7443' },
    ],
  };
  t.match(await welcomes.welcome(request), { ok: true, value: expected });
  t.match(await welcomes.welcome(request), { ok: true, value: expected }, 'its answer may have been lost');
});

t.test('nothing gets into the log for one that is not let in', async (t) => {
  const { replica, request } = await inviting(t);
  const welcomes = new Welcomes(() => replica.log.machine.state, replica.proposer, replica.clock);
  const { appliedIndex } = replica.log;
  const cases: readonly [Partial<JoinRequest>, RegExp][] = [
    [{ memberId: 'a'.repeat(32) }, /no such invitation/],
    [{ nodeName: 'node-3' }, /is for node "node-2", and its certificate says "node-3"/],
    [{ secret: 'a'.repeat(64) }, /is not the one made for/],
    [{ secret: '' }, /is not the one made for/],
    [{ formatMax: 1 }, /works with format 2, .* reads up to 1/],
  ];
  for (const [changes, error] of cases) {
    t.match(await welcomes.welcome({ ...request, ...changes }), { ok: false, error });
  }
  replica.now.wallMs += 25 * 3_600_000;
  t.match(await welcomes.welcome(request), { ok: false, error: /has expired/ });
  t.equal(replica.log.appliedIndex, appliedIndex);
});

t.test('a join token names addresses that can be dialled, or is damaged', async (t) => {
  const { request } = await inviting(t);
  const { clusterId, memberId, nodeName, secret } = request;
  const parsed = (address: string) =>
    parseJoinToken(
      encodeJoinToken({
        clusterId,
        memberId,
        nodeName,
        secret,
        peers: [{ memberId, name: 'node-1', address }],
      }),
    );
  t.match(parsed('node-1:7443'), { ok: true });
  for (const address of ['node-1', 'node-1:0', 'node-1:7443\n', '']) {
    t.match(parsed(address), { ok: false, error: /^the join token is damaged/ }, JSON.stringify(address));
  }
});
