import t, { type Test } from 'tap';
import { err, ok } from '../../src/base/result.js';
import type { AdminCommand, AdminRequest } from '../../src/replica/admin-contract.js';
import { readingProblem } from '../../src/replica/admin-reading.js';
import { FakeHsm } from './fake-hsm.js';
import { foundedReplica, makeReplica, type ReplicaAtSeams } from './replica-at-seams.js';
import { joinMember } from './replica-in-cluster.js';

/** Every command that answers from key state. */
const readings: readonly (readonly [AdminCommand, AdminRequest<AdminCommand>])[] = [
  ['keystore.list', {}],
  ['keystore.show', { name: 'store' }],
  ['credential.list', {}],
  ['key.list', { keyStore: 'store' }],
  ['key.show', { keyStore: 'store', externalKeyId: 'one' }],
  ['pending.list', {}],
  ['hsm.list', {}],
];

async function withKey(t: Test): Promise<ReplicaAtSeams> {
  const replica = await makeReplica(t);
  await replica.link({ onHsmRequest: new FakeHsm().answer });
  await replica.run('hsm.prepare', {});
  await replica.run('keystore.create', { name: 'store', regions: ['us-east-1'] });
  await replica.run('key.generate', { keyStore: 'store', externalKeyId: 'one' });
  return replica;
}

const silent = async () => err({ code: 'no-quorum', message: 'nobody answered' } as const);

t.test('what is answered from key state was confirmed by a quorum, and says so', async (t) => {
  const { run, log } = await withKey(t);
  for (const [command, request] of readings) {
    t.match(
      await run(command, request),
      { ok: true, value: { reading: { confirmed: true, index: log.appliedIndex, ageMs: 0 } } },
      command,
    );
  }
});

t.test('an answer waits for the index that a quorum confirms', async (t) => {
  const { run, log, cluster } = await withKey(t);
  let confirm = (): void => {};
  const asked = new Promise<void>((begun) => {
    cluster.read = () => {
      begun();
      return new Promise((resolve) => {
        confirm = () => resolve(ok(log.appliedIndex));
      });
    };
  });
  const answer = run('key.show', { keyStore: 'store', externalKeyId: 'one' });
  await asked;
  // Comes in from the others before the quorum has answered: it may have been acknowledged before the question.
  await run('key.disable', { keyStore: 'store', externalKeyId: 'one' });
  confirm();
  t.match(await answer, { value: { key: { status: 'DISABLED' }, reading: { index: log.appliedIndex } } });
});

t.test('without a quorum nothing is answered, and what to do is said', async (t) => {
  const { run, cluster } = await withKey(t);
  cluster.read = silent;
  cluster.loop = { freshAsOfMs: cluster.nowMs - 12_300 };
  for (const [command, request] of readings) {
    t.match(
      await run(command, request),
      {
        ok: false,
        error: {
          code: 'no-quorum',
          message: /^no quorum: nobody answered\. Use --stale .*knows, as of 12 s ago;/,
        },
      },
      command,
    );
  }
  cluster.loop = { freshAsOfMs: null };
  t.match(await run('key.list', { keyStore: 'store' }), {
    error: { message: /knows, which no quorum has confirmed since this replica started;/ },
  });
});

t.test('a stale reading asks nobody, and says how old it is', async (t) => {
  const { run, log, cluster } = await withKey(t);
  cluster.read = async () => {
    t.fail('a quorum was asked');
    return silent();
  };
  for (const [ageMs, freshAsOfMs] of [
    [12_300, cluster.nowMs - 12_300],
    [null, null],
  ] as const) {
    cluster.loop = { freshAsOfMs };
    for (const [command, request] of readings) {
      const stale = { ...request, stale: true };
      t.match(
        await run(command, stale),
        { ok: true, value: { reading: { confirmed: false, index: log.appliedIndex, ageMs } } },
        command,
      );
    }
  }
  cluster.loop = { freshAsOfMs: cluster.nowMs - 12_300 };
  t.match(
    await run('key.show', { keyStore: 'store', externalKeyId: 'two', stale: true }),
    { error: { code: 'not-found', message: /, by what this node knows, as of 12 s ago$/ } },
    'what is not there may be elsewhere',
  );
});

t.test('status needs no quorum', async (t) => {
  const { run, cluster } = await withKey(t);
  cluster.read = silent;
  t.match(await run('status', {}), { ok: true });
  t.match(await run('cluster.status', {}), { ok: true });
});

t.test('what is to be changed is said not to be there only when a quorum knows nothing of it', async (t) => {
  const { run, cluster } = await withKey(t);
  const disable = { keyStore: 'store', externalKeyId: 'two' };
  let asked = 0;
  const { read } = cluster;
  cluster.read = async () => {
    asked += 1;
    return read();
  };
  t.match(await run('key.disable', { keyStore: 'store', externalKeyId: 'one' }), { ok: true });
  t.equal(asked, 0, 'what is there needs no question');
  t.match(await run('key.disable', disable), {
    ok: false,
    error: { code: 'not-found', message: /has no key "two"[^,]*$/ },
  });
  t.equal(asked, 1);
  cluster.read = silent;
  t.match(await run('key.disable', disable), {
    error: { code: 'not-found', message: /, by what this node knows, as of 0 s ago$/ },
  });
  cluster.read = async () => {
    cluster.read = read;
    await run('key.generate', disable);
    return read();
  };
  t.match(await run('key.disable', disable), { ok: true, value: { key: { status: 'DISABLED' } } });
});

t.test('what keeps a reading from being confirmed is named for what it is', async (t) => {
  const { run, cluster } = await withKey(t);
  for (const [kind, code, message] of [
    ['no-quorum', 'no-quorum', /^no quorum: the reason\. Use --stale /],
    ['overloaded', 'overloaded', /^too much is to be confirmed: the reason\. Use --stale /],
    ['closed', 'log-failed', /^nothing is confirmed here any more: the reason\. Use --stale /],
  ] as const) {
    cluster.read = async () => err(readingProblem({ kind, reason: 'the reason' }));
    t.match(await run('keystore.list', {}), { ok: false, error: { code, message } });
  }
});

t.test('that something is in the way is said only when a quorum knows nothing else, too', async (t) => {
  const replica = await foundedReplica(t);
  const { run, cluster, log } = replica;
  const memberId = await joinMember(replica, 'node-2');
  const add = { name: 'node-2', address: 'node-2:7443' };
  cluster.read = silent;
  t.strictSame(await run('cluster.add', add), {
    ok: false,
    error: {
      code: 'already-exists',
      message:
        'The cluster has a member node-2 already. A node whose disk was lost comes back as a new member: ' +
        '`xksctl cluster remove node-2` first. That is by what this node knows, as of 0 s ago.',
    },
  });
  cluster.read = async () => ok(log.appliedIndex);
  t.strictSame(await run('cluster.add', { ...add, name: 'node-3' }), {
    ok: false,
    error: { code: 'conflict', message: 'node-2:7443 is the address of member node-2: give that of node-3.' },
  });
  cluster.read = async () => {
    await replica.proposer.propose({ type: 'member.remove', memberId }, { by: 'another node' });
    return ok(log.appliedIndex);
  };
  t.match(await run('cluster.add', add), { ok: true, value: { member: { name: 'node-2' } } });
});

t.test('what the log refused is said as it is, and not tried again', async (t) => {
  const { run, log, cluster } = await foundedReplica(t);
  cluster.read = async () => {
    t.fail('a quorum was asked');
    return silent();
  };
  const { appliedIndex } = log;
  t.match(await run('pending.confirm', { index: 1 }), {
    ok: false,
    error: { code: 'not-found', message: /^((?!by what this node knows).)*$/ },
  });
  t.equal(log.appliedIndex, appliedIndex + 1, 'it is in the log once');
});
