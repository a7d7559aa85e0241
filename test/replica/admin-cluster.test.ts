import t from 'tap';
import { err, ok, type Result } from '../../src/base/result.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { commandFormatMax } from '../../src/keystate/command-format.js';
import type { PeerProgress } from '../../src/raft/types.js';
import type { AdminError } from '../../src/replica/admin-error.js';
import { parseJoinToken } from '../../src/replica/join-token.js';
import type { PeerReport } from '../../src/replication/replication-loop.js';
import { requestIdAt } from '../support/founded-cluster.js';
import { foundedReplica as founded, type ReplicaAtSeams } from './replica-at-seams.js';

const must = <T>(result: Result<T, AdminError>): T => {
  if (!result.ok) throw new Error(`${result.error.code}: ${result.error.message}`);
  return result.value;
};

/** Adds a node, lets it join, and say so. */
async function joined(replica: ReplicaAtSeams, name: string): Promise<string> {
  const { run, log, now } = replica;
  const { joinToken } = must(await run('cluster.add', { name, address: `${name}:7443` }));
  const token = parseJoinToken(joinToken);
  if (!token.ok) throw new Error(token.error);
  const { memberId } = token.value;
  const member = log.machine.state.member(memberId);
  await log.propose(
    encodeCommand({
      type: 'member.join',
      requestId: requestIdAt(now.wallMs, log.appliedIndex),
      atMs: now.wallMs,
      by: 'test',
      memberId,
      joinSecretDigest: member?.joinSecretDigest ?? '',
      address: `${name}:7443`,
    }),
  );
  hear(replica, memberId, name);
  return memberId;
}

/** A report of this member has just come. */
function hear({ cluster, log }: ReplicaAtSeams, memberId: string, name: string, appliedIndex?: number): void {
  const report: PeerReport = {
    memberId,
    receivedAtMs: cluster.nowMs,
    report: {
      nodeName: name,
      version: '0.0.0',
      formatMax: commandFormatMax,
      configHash: 'config',
      wallMs: Date.now(),
      appliedIndex: appliedIndex ?? log.appliedIndex,
      servingAppliedIndex: 0,
      readyServingProcesses: 2,
      stateHashes: [],
    },
  };
  const others = (cluster.loop.reports ?? []).filter((other) => other.memberId !== memberId);
  cluster.loop = { ...cluster.loop, reports: [...others, report] };
}

const progressOf = (memberId: string, matchIndex: number): PeerProgress => ({
  memberId,
  learner: true,
  state: 'replicate',
  matchIndex,
  nextIndex: matchIndex + 1,
  recentlyActive: true,
  inflightMessages: 0,
  lostAcknowledged: false,
});

t.test('a node is invited by a name only that it may have ([node] name)', async (t) => {
  const { run } = await founded(t);
  for (const name of ['n'.repeat(64), 'node-', 'node 2']) {
    t.match(await run('cluster.add', { name, address: 'node-2:7443' }), {
      error: { code: 'bad-request', message: /name: must be 1 to 63 letters/ },
    });
  }
  must(await run('cluster.add', { name: 'n'.repeat(63), address: 'node-2:7443' }));
});

t.test('when a member was heard of is told in whole milliseconds', async (t) => {
  const replica = await founded(t);
  await joined(replica, 'node-2');
  replica.cluster.nowMs += 12.6;
  const { members } = must(await replica.run('cluster.status', {}));
  t.equal(members.find(({ name }) => name === 'node-2')?.heardMsAgo, 13);
});

t.test(
  'a node is added by a token that is good for it alone, and whose secret key state does not hold',
  async (t) => {
    const replica = await founded(t);
    const { run, log } = replica;
    const added = must(await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }));
    t.match(added, { member: { name: 'node-2', status: 'invited', findings: [] } });
    const token = parseJoinToken(added.joinToken);
    if (!token.ok) throw new Error(token.error);
    t.match(token.value, {
      clusterId: replica.cluster.clusterId,
      nodeName: 'node-2',
      peers: [{ name: 'node-1', address: 'node-1:7443' }],
    });
    const state = [...log.machine.snapshot()].map((record) => Buffer.from(record).toString('latin1')).join();
    t.notOk(state.includes(token.value.secret));
    t.match(await run('cluster.add', { name: 'node-2', address: 'x:1' }), {
      ok: false,
      error: { code: 'already-exists', message: /cluster remove node-2/ },
    });
    t.match(await run('cluster.promote', { name: 'node-2' }), {
      ok: false,
      error: { code: 'refused', message: /has not joined yet/ },
    });
  },
);

t.test('an invitation that has expired is replaced, and an address is of one member', async (t) => {
  const { run, now } = await founded(t);
  t.match(await run('cluster.add', { name: 'node-2', address: 'node-1:7443' }), {
    ok: false,
    error: { code: 'conflict', message: /is the address of member node-1/ },
  });
  const first = must(
    await run('cluster.add', { name: 'node-2', address: 'node-2:7443', expiresSeconds: 60 }),
  );
  now.wallMs += 61_000;
  const second = must(await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }));
  t.not(second.joinToken, first.joinToken);
  t.match(await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }), {
    ok: false,
    error: { code: 'already-exists', message: /cluster remove node-2/ },
  });
});

t.test(
  'of one request to add a node, made twice at once or after it joined, one token is shown',
  async (t) => {
    const replica = await founded(t);
    const { run, log, now } = replica;
    const request = { name: 'node-2', address: 'node-2:7443' };
    const propose = log.propose.bind(log);
    // Neither has heard of the other's outcome when it asks the log.
    log.propose = async (command) => {
      await new Promise(setImmediate);
      return propose(command);
    };
    const both = await Promise.all(
      [1, 2].map(() => run('cluster.add', request, requestIdAt(now.wallMs, 77))),
    );
    t.strictSame(
      both.map(({ ok: done }) => done),
      [true, false],
    );
    const gone = {
      ok: false,
      error: { message: /^node-2 was invited by the first of these requests already/ },
    };
    t.match(both[1], gone);
    log.propose = propose;
    const invited = log.machine.state.memberByName('node-2');
    const [memberId, joinSecretDigest] = [invited?.memberId ?? '', invited?.joinSecretDigest ?? ''];
    const requestId = requestIdAt(now.wallMs, 78);
    const rest = {
      requestId,
      atMs: now.wallMs,
      by: 'test',
      memberId,
      joinSecretDigest,
      address: request.address,
    };
    await log.propose(encodeCommand({ type: 'member.join', ...rest }));
    t.match(await run('cluster.add', request, requestIdAt(now.wallMs, 77)), gone);
  },
);

t.test('an invitation can be withdrawn, which leaves nothing to forget', async (t) => {
  const { run } = await founded(t);
  must(await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }));
  t.match(must(await run('cluster.remove', { name: 'node-2' })), { status: 'invited', unapplied: [] });
  t.strictSame(must(await run('cluster.status', {})).formerMembers, []);
});

t.test(
  'asked again under the same request id, an add shows no other token, and a removal is done',
  async (t) => {
    const replica = await founded(t);
    const { run, now } = replica;
    const [first, second] = [requestIdAt(now.wallMs, 1), requestIdAt(now.wallMs, 2)];
    must(await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }, first));
    t.match(await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }, first), {
      ok: false,
      error: { code: 'already-exists', message: /token cannot be shown again/ },
    });
    must(await run('cluster.remove', { name: 'node-2' }));
    await joined(replica, 'node-3');
    must(await run('cluster.remove', { name: 'node-3' }, second));
    t.match(must(await run('cluster.remove', { name: 'node-3' }, second)), {
      status: 'removed',
      change: { repeated: true },
    });
    t.match(await run('cluster.remove', { name: 'node-3' }), { ok: false, error: { code: 'not-found' } });
  },
);

t.test('a learner votes once it has caught up and answers', async (t) => {
  const replica = await founded(t);
  const { run, cluster, log } = replica;
  const memberId = await joined(replica, 'node-2');
  t.match(await run('cluster.promote', { name: 'node-2' }), {
    ok: false,
    error: { message: /does not answer/ },
  });
  cluster.raft = { progress: [progressOf(memberId, 0)] };
  t.match(await run('cluster.promote', { name: 'node-2' }), {
    ok: false,
    error: { message: /has not written any entry/ },
  });
  cluster.raft = { progress: [progressOf(memberId, 1)], lastIndex: 1_000 };
  t.match(await run('cluster.promote', { name: 'node-2' }), {
    ok: false,
    error: { message: /lacks 999 entries/ },
  });
  cluster.raft = { progress: [progressOf(memberId, log.appliedIndex)] };
  t.match(must(await run('cluster.promote', { name: 'node-2' })), { member: { status: 'voter' } });
  const other = await joined(replica, 'node-3');
  t.match(must(await run('cluster.promote', { name: 'node-3', force: true })), {
    member: { memberId: other },
  });
});

t.test('a removal that would cost the majority is refused, unless forced', async (t) => {
  const replica = await founded(t);
  const { run, cluster, log } = replica;
  const ids: string[] = [];
  for (const name of ['node-2', 'node-3']) {
    ids.push(await joined(replica, name));
    must(await run('cluster.promote', { name, force: true }));
  }
  // node-3 was not heard of for long: without node-2, node-1 alone would be half of two.
  cluster.nowMs += 60_000;
  hear(replica, ids[0] ?? '', 'node-2');
  t.match(await run('cluster.remove', { name: 'node-2' }), {
    ok: false,
    error: { code: 'refused', message: /2 voters are left, and 1 of them can be reached/ },
  });
  t.match(must(await run('cluster.remove', { name: 'node-3' })), { name: 'node-3', unapplied: ['node-2'] });
  hear(replica, ids[0] ?? '', 'node-2', log.appliedIndex + 1);
  t.match(must(await run('cluster.remove', { name: 'node-2', force: true })), { unapplied: [] });
  t.strictSame(
    must(await run('cluster.status', {})).formerMembers.map(({ name, destroyed }) => [name, destroyed]),
    [
      ['node-3', false],
      ['node-2', false],
    ],
  );
  must(await run('cluster.forget', { name: 'node-3', destroyed: true }));
  t.match(await run('cluster.forget', { name: 'node-1', destroyed: true }), {
    ok: false,
    error: { code: 'not-found' },
  });
});

t.test('what only the leader can decide is asked of it', async (t) => {
  const replica = await founded(t);
  const { run, cluster } = replica;
  const leader = await joined(replica, 'node-2');
  cluster.raft = { role: 'follower', leader };
  t.match(await run('cluster.remove', { name: 'node-1' }), {
    ok: false,
    error: { code: 'no-quorum', message: 'nobody' },
  });
  t.match(cluster.asked, [{ memberId: leader, command: 'cluster.remove', body: { name: 'node-1' } }]);
  cluster.answer = err({ code: 'outcome-unknown', message: 'node-2 did not answer.' });
  t.match(await run('cluster.remove', { name: 'node-1' }), { error: { message: /answer\. .*--request-id/ } });
  t.match(
    await run('cluster.transfer', { to: 'node-2' }),
    { error: { message: 'node-2 did not answer. `xksctl cluster status` shows who leads.' } },
    'a transfer is remembered under no id',
  );
  cluster.raft = { role: 'follower', leader: null };
  t.match(await run('cluster.transfer', { to: 'node-2' }), {
    ok: false,
    error: { code: 'no-quorum', message: /No leader is known here/ },
  });
});

t.test('a leader that is to be removed hands over first: its successor decides', async (t) => {
  const replica = await founded(t);
  const { run, cluster, log } = replica;
  const memberId = await joined(replica, 'node-2');
  must(await run('cluster.promote', { name: 'node-2', force: true }));
  cluster.raft = {
    progress: [{ ...progressOf(memberId, log.appliedIndex), learner: false }],
    membership: { voters: [cluster.memberId, memberId], learners: [] },
  };
  const { appliedIndex } = log;
  const removed = {
    name: 'node-1',
    memberId: cluster.memberId,
    status: 'voter',
    change: { index: appliedIndex + 1, applied: true, unconfirmed: [], repeated: false },
    unapplied: [],
  };
  cluster.answer = ok(removed);
  t.strictSame(must(await run('cluster.remove', { name: 'node-1', force: true })), removed);
  t.strictSame(cluster.transfers, [memberId]);
  t.match(cluster.asked, [{ memberId, command: 'cluster.remove', body: { name: 'node-1', force: true } }]);
  t.equal(log.appliedIndex, appliedIndex, 'nothing was decided here');
});

t.test('leadership goes to the voter asked for', async (t) => {
  const replica = await founded(t);
  const memberId = await joined(replica, 'node-2');
  t.match(must(await replica.run('cluster.transfer', { to: 'node-2' })), { leader: 'node-2' });
  t.strictSame(replica.cluster.transfers, [memberId]);
});

t.test('the format is raised only when every member is known to have it', async (t) => {
  const replica = await founded(t);
  t.match(must(await replica.run('cluster.upgrade', { finalize: true })), {
    activeFormat: commandFormatMax,
    change: null,
  });
  await joined(replica, 'node-2');
  replica.cluster.loop = { reports: [] };
  t.match(await replica.run('cluster.upgrade', { finalize: true }), {
    ok: false,
    error: { code: 'refused', message: /node-2 is not heard of/ },
  });
});

t.test('the leader raises the format, by what a quorum has confirmed to it', async (t) => {
  const replica = await founded(t);
  const { run, cluster, log } = replica;
  const upgrade = () => run('cluster.upgrade', { finalize: true });
  const leader = await joined(replica, 'node-2');
  cluster.raft = { leader };
  cluster.answer = ok({ activeFormat: commandFormatMax, change: null, joinedMeanwhile: [] });
  t.match(await upgrade(), { ok: true, value: { activeFormat: commandFormatMax } });
  t.match(cluster.asked, [{ memberId: leader, command: 'cluster.upgrade', body: { finalize: true } }]);
  // One of an earlier release would answer that there is nothing to be done.
  const { reports = [] } = cluster.loop;
  cluster.loop = {
    reports: reports.map((each) => ({
      ...each,
      report: { ...each.report, version: '0.0.0-old', formatMax: 1 },
    })),
  };
  t.match(await upgrade(), { ok: false, error: { code: 'refused', message: /node-2 runs 0\.0\.0-old/ } });
  t.equal(cluster.asked.length, 1);
  cluster.loop = { reports };
  cluster.raft = {};
  cluster.read = async () => err({ code: 'no-quorum', message: 'alone' });
  t.match(await upgrade(), { ok: false, error: { code: 'no-quorum' } });
  cluster.read = async () => {
    await joined(replica, 'node-3');
    cluster.loop = { reports };
    return ok(log.appliedIndex);
  };
  t.match(await upgrade(), { ok: false, error: { code: 'refused', message: /: node-3 is not heard of\. / } });
});

t.test('who joins between the look and the upgrade is named', async (t) => {
  const replica = await founded(t);
  const { run, cluster, log } = replica;
  await joined(replica, 'node-2');
  const { state } = log.machine;
  state.activeFormat = () => 1;
  const propose = log.propose.bind(log);
  log.propose = async (command) => {
    log.propose = propose;
    state.activeFormat = () => commandFormatMax;
    await joined(replica, 'node-3');
    await joined(replica, 'node-4');
    // Of node-2, which was there before, nothing is said that its silence since might mean.
    const reports = (cluster.loop.reports ?? []).filter(({ report }) => report.nodeName === 'node-4');
    cluster.loop = { reports };
    log.skip();
    return ok({ index: log.appliedIndex, command, result: { ok: true, revision: log.appliedIndex } });
  };
  t.match(must(await run('cluster.upgrade', { finalize: true })), {
    activeFormat: commandFormatMax,
    joinedMeanwhile: ['node-3 is not heard of'],
  });
});

t.test('status says what wants a look: silence, clocks, other versions, other states', async (t) => {
  const replica = await founded(t);
  const { run, cluster } = replica;
  const memberId = await joined(replica, 'node-2');
  cluster.loop = { ...cluster.loop, divergent: [memberId], halted: 'its state differs' };
  cluster.nowMs += 10_000;
  cluster.raft = { leader: null };
  const { degraded, leader, freshnessAgeMs } = must(await run('cluster.status', {}));
  t.equal(leader, null);
  t.equal(freshnessAgeMs, 0);
  for (const finding of [
    /no leader is known here/,
    /replication has stopped on this node: its state differs/,
    /node-2: silent for 10 s/,
    /node-2: its clock is .* ms off ours/,
    /node-2: its key state differs from ours/,
    /node-2 is a learner/,
  ]) {
    t.ok(
      degraded.some((line) => finding.test(line)),
      finding.source,
    );
  }
  t.match(must(await run('status', {})).degraded[0], /replication has stopped/);
});
