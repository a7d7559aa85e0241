import t from 'tap';
import { err, ok } from '../../src/base/result.js';
import { defaultSettings } from '../../src/keystate/cluster-settings.js';
import type { ProposeOptions } from '../../src/replication/ordered-log.js';
import { leadLostText } from '../../src/replication/proposals.js';
import { caller, foundedReplica } from './replica-at-seams.js';

t.test('settings: those named are changed, the others stay', async (t) => {
  const { run, log } = await foundedReplica(t);
  t.match(await run('settings.show', {}), {
    value: { settings: defaultSettings, defaults: defaultSettings },
  });
  const set = await run('settings.set', { settings: { electionTicks: 8 } });
  t.match(set, { ok: true, value: { settings: { ...defaultSettings, electionTicks: 8 } } });
  await run('settings.set', { settings: { tickMs: 40, freshnessIntervalMs: 250 } });
  const changed = { ...defaultSettings, electionTicks: 8, tickMs: 40, freshnessIntervalMs: 250 };
  t.strictSame(log.machine.state.settings(), changed);
  t.match(await run('settings.show', {}), { value: { settings: changed, defaults: defaultSettings } });
});

t.test('settings that do not fit each other are refused', async (t) => {
  const { run, log } = await foundedReplica(t);
  const before = log.appliedIndex;
  t.match(await run('settings.set', { settings: { heartbeatTicks: 5 } }), {
    ok: false,
    error: { code: 'invalid', message: /3 heartbeats at least/ },
  });
  t.match(await run('settings.set', { settings: {} }), { ok: false, error: { code: 'bad-request' } });
  t.equal(log.appliedIndex, before, 'none got into the log');
});

t.test('two at once: neither undoes the other', async (t) => {
  const { run, log } = await foundedReplica(t);
  await Promise.all([
    run('settings.set', { settings: { electionTicks: 8 } }),
    run('settings.set', { settings: { freshnessIntervalMs: 250 } }),
  ]);
  t.match(log.machine.state.settings(), { electionTicks: 8, freshnessIntervalMs: 250 });
});

t.test('a repetition under the same id is carried out once', async (t) => {
  const { run, log } = await foundedReplica(t);
  const { requestId } = caller();
  await run('settings.set', { settings: { electionTicks: 8 } }, requestId);
  await run('settings.set', { settings: { electionTicks: 9 } });
  const again = await run('settings.set', { settings: { electionTicks: 8 } }, requestId);
  t.match(again, { value: { settings: { electionTicks: 9 }, change: { repeated: true } } });
  t.equal(log.machine.state.settings().electionTicks, 9);
});

t.test('a repetition is one, also when another setting was changed in between', async (t) => {
  const { run, log } = await foundedReplica(t);
  const { requestId } = caller();
  const first = await run('settings.set', { settings: { electionTicks: 8 } }, requestId);
  if (!first.ok) throw new Error(first.error.message);
  await run('settings.set', { settings: { freshnessIntervalMs: 250 } });
  const { appliedIndex } = log;
  const again = await run('settings.set', { settings: { electionTicks: 8 } }, requestId);
  const { index } = first.value.change;
  t.match(again, {
    ok: true,
    value: {
      settings: { electionTicks: 8, freshnessIntervalMs: 250 },
      change: { index, repeated: true, applied: true },
    },
  });
  t.equal(log.appliedIndex, appliedIndex, 'no change');
  await run('settings.set', { settings: { electionTicks: 9 } });
  t.match(
    await run('settings.set', { settings: { electionTicks: 8 } }, requestId),
    { error: { code: 'conflict', message: new RegExp(`carried out at index ${index}\\. Either`) } },
    'nor does it undo what was set since',
  );
  t.match(log.machine.state.settings(), { electionTicks: 9, freshnessIntervalMs: 250 });
});

t.test('the id of another change is no repetition', async (t) => {
  const { run, log } = await foundedReplica(t);
  const { requestId } = caller();
  await run('cluster.add', { name: 'node-2', address: 'node-2:7443' }, requestId);
  t.match(await run('settings.set', { settings: { electionTicks: 8 } }, requestId), {
    error: { code: 'conflict', message: /was another change/ },
  });
  t.strictSame(log.machine.state.settings(), defaultSettings);
});

t.test('they are set at the leader, by what a quorum confirms', async (t) => {
  const { run, cluster, log } = await foundedReplica(t);
  cluster.raft = { role: 'follower', leader: 'id-node-2' };
  const change = { index: 7, repeated: false, applied: true, unconfirmed: [] };
  cluster.answer = ok({ settings: defaultSettings, change });
  t.match(await run('settings.set', { settings: { electionTicks: 8 } }), { ok: true, value: { change } });
  t.match(cluster.asked, [
    { memberId: 'id-node-2', command: 'settings.set', body: { settings: { electionTicks: 8 } } },
  ]);
  cluster.answer = err({ code: 'no-quorum', message: 'it is gone' });
  t.match(await run('settings.set', { settings: { electionTicks: 8 } }), {
    error: { message: 'it is gone' },
  });
  cluster.raft = { role: 'follower', leader: null };
  t.match(await run('settings.set', { settings: { electionTicks: 8 } }), {
    error: { code: 'no-quorum', message: /No leader is known here/ },
  });
  t.strictSame(log.machine.state.settings(), defaultSettings);
});

t.test('they are for the leader to set that has read them, or for nobody', async (t) => {
  const { run, cluster, log } = await foundedReplica(t);
  cluster.raft = { term: 7 };
  cluster.read = async () => {
    cluster.raft = { term: 9 };
    return ok(log.appliedIndex);
  };
  const asked: unknown[] = [];
  log.propose = async (_, options?: ProposeOptions) => {
    asked.push(options?.onlyTerm);
    return err({ kind: 'not-taken', reason: leadLostText });
  };
  t.match(await run('settings.set', { settings: { electionTicks: 8 } }), {
    ok: false,
    error: {
      code: 'conflict',
      message: /^Nothing was changed: this node does not lead any more\. Try again/,
    },
  });
  t.strictSame(asked, [7], 'not the term of a later look');
});

t.test('where the leader does not answer, the id to repeat it under is told, once', async (t) => {
  const { run, cluster } = await foundedReplica(t);
  cluster.raft = { role: 'follower', leader: 'id-node-2' };
  const { requestId } = caller();
  const code = 'outcome-unknown';
  const messageOf = async (message: string): Promise<string> => {
    cluster.answer = err({ code, message });
    const answer = await run('settings.set', { settings: { electionTicks: 8 } }, requestId);
    if (answer.ok) throw new Error('nobody did it');
    t.equal(answer.error.code, code);
    return answer.error.message;
  };
  t.equal(
    await messageOf('node-2 did not answer.'),
    `node-2 did not answer. Repeat it with --request-id ${requestId}: it is carried out once at most.`,
  );
  const own = `Not known. Repeat it with --request-id ${requestId}.`;
  t.equal(await messageOf(own), own, 'the leader has said it');
});
