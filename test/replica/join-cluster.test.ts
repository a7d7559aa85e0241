import t, { type Test } from 'tap';
import { err } from '../../src/base/result.js';
import type { KeyStateQueries } from '../../src/keystate/types.js';
import { type Welcome, Welcomes } from '../../src/replica/join-cluster.js';
import { encodeJoinToken, parseJoinToken } from '../../src/replica/join-token.js';
import type { JoinRequest } from '../../src/replication/transport/peer-server.js';
import { foundedReplica, type ReplicaAtSeams } from './replica-at-seams.js';

/** What `name`, invited now, then shows. */
async function invite({ run }: ReplicaAtSeams, name: string): Promise<JoinRequest> {
  const added = await run('cluster.add', { name, address: `${name}:7443` });
  const token = added.ok ? parseJoinToken(added.value.joinToken) : null;
  if (token?.ok !== true) throw new Error(`${name} was not invited`);
  const { memberId, secret, clusterId } = token.value;
  return {
    ...{ clusterId, memberId, nodeName: name, advertise: `${name}:7443`, secret },
    ...{ formatMin: 1, formatMax: 4 },
  };
}

/** A cluster of node-1 that invited node-2, and what node-2 then shows. */
async function inviting(t: Test) {
  const replica = await foundedReplica(t);
  return { replica, request: await invite(replica, 'node-2') };
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
  await invite(replica, 'node-3');
  t.strictSame(
    await welcomes.welcome(request),
    { ok: true, value: expected },
    'not those who have yet to join',
  );
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
    [{ formatMax: 1 }, /works with format 4, .* reads up to 1/],
  ];
  for (const [changes, error] of cases) {
    t.match(await welcomes.welcome({ ...request, ...changes }), { ok: false, error });
  }
  replica.now.wallMs += 25 * 3_600_000;
  t.match(await welcomes.welcome(request), { ok: false, error: /has expired/ });
  t.equal(replica.log.appliedIndex, appliedIndex);
});

/** `state`, but for an upgrade that has not come yet. */
function beforeUpgrade(state: KeyStateQueries): KeyStateQueries {
  return new Proxy(state, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (name === 'activeFormat') return () => 1;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

t.test('who joined while the format rose is taken out again and told so', async (t) => {
  const { replica, request } = await inviting(t);
  const { log } = replica;
  const { state } = log.machine;
  const older = { ...request, formatMax: 1 };
  const isInvited = (): boolean => state.member(older.memberId)?.status === 'invited';
  const welcomes = new Welcomes(
    () => (isInvited() ? beforeUpgrade(state) : state),
    replica.proposer,
    replica.clock,
  );
  t.match(await welcomes.welcome(older), {
    ok: false,
    error: /works with format 4, .* reads up to 1: install a newer one there, and invite it anew/,
  });
  t.equal(state.memberByName('node-2'), null);
  Object.assign(older, await invite(replica, 'node-2'), { formatMax: 1 });
  const propose = log.propose.bind(log);
  log.propose = async (command) =>
    isInvited() ? propose(command) : err({ kind: 'unknown', reason: 'cut off' });
  t.match(await welcomes.welcome(older), {
    ok: false,
    error: /install a newer one there, and remove "node-2" .*could not be taken out again .*cut off/,
  });
});

t.test('who has a vote has joined for good', async (t) => {
  const { replica, request } = await inviting(t);
  const welcomes = new Welcomes(() => replica.log.machine.state, replica.proposer, replica.clock);
  t.match(await welcomes.welcome(request), { ok: true });
  t.match(await replica.run('cluster.promote', { name: 'node-2', force: true }), { ok: true });
  t.match(await welcomes.welcome(request), { ok: false, error: /"node-2" has joined already/ });
});

t.test('few are let in at a time, and each once', async (t) => {
  const replica = await foundedReplica(t);
  const requests: JoinRequest[] = [];
  for (let number = 2; number <= 6; number += 1) requests.push(await invite(replica, `node-${number}`));
  const welcomes = new Welcomes(() => replica.log.machine.state, replica.proposer, replica.clock);
  const { log } = replica;
  const propose = log.propose.bind(log);
  let proceed = (): void => {};
  const held = new Promise<void>((resolve) => {
    proceed = resolve;
  });
  log.propose = async (command) => {
    await held;
    return propose(command);
  };
  const [first, , , , last] = requests;
  if (first === undefined || last === undefined) throw new Error('five were invited');
  const underWay = requests.slice(0, 4).map((request) => welcomes.welcome(request));
  t.match(await welcomes.welcome(first), { ok: false, error: /this node is being let in already/ });
  t.match(await welcomes.welcome(last), { ok: false, error: /other nodes are being let in/ });
  proceed();
  for (const welcome of underWay) t.match(await welcome, { ok: true });
  t.match(await welcomes.welcome(last), { ok: true }, 'there is room again');
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
