import t from 'tap';
import { defaultSettings, settingsLimits, settingsProblem } from '../../src/keystate/cluster-settings.js';
import type { ClusterSettings } from '../../src/keystate/cluster-types.js';
import { checkCommand } from '../../src/keystate/command-checks.js';
import { changesMembership, classOf, commandClasses } from '../../src/keystate/command-class.js';
import { checkActiveFormat, commandFormatMax } from '../../src/keystate/command-format.js';
import { snapshotFormatMax } from '../../src/keystate/snapshot-records.js';
import { type Command, limits, type OnIsolation } from '../../src/keystate/types.js';
import { raftLogLimits } from '../../src/replication/raft-log-limits.js';
import { type CommandBody, FoundedCluster } from '../support/founded-cluster.js';

const { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs } = defaultSettings;

t.test('settings have defaults, until a command sets others', async (t) => {
  const cluster = new FoundedCluster();
  t.strictSame(cluster.state.settings(), defaultSettings);
  t.equal(settingsProblem(defaultSettings), null);
  const settings = { ...defaultSettings, tickMs: 20, electionTicks: 20, serveStaleMaxMs: 3_600_000 };
  t.match(cluster.apply({ type: 'cluster.settings', settings }), { ok: true });
  t.strictSame(cluster.state.settings(), settings);
});

const bad: readonly { readonly change: Partial<ClusterSettings>; readonly message: RegExp }[] = [
  { change: { tickMs: 9 }, message: /a tick has 10 to 500 ms/ },
  { change: { tickMs: 501 }, message: /a tick has 10 to 500 ms/ },
  { change: { heartbeatTicks: 0 }, message: /at least one tick/ },
  { change: { heartbeatTicks: 4 }, message: /3 heartbeats at least/ },
  { change: { tickMs: 10, electionTicks: 9 }, message: /100 ms at least, and this one 9 × 10/ },
  { change: { electionTicks: 13 }, message: /within 1500 ms: election-ticks × tick-ms may be 600 ms/ },
  { change: { freshnessIntervalMs: 99 }, message: /every 100 to 1000 ms/ },
  { change: { freshnessIntervalMs: 1_001 }, message: /every 100 to 1000 ms/ },
  { change: { serveStaleMaxMs: 59_999 }, message: /serve-stale-max-ms is 60000 to 2592000000/ },
  { change: { serveStaleMaxMs: 31 * 86_400_000 }, message: /serve-stale-max-ms is 60000 to 2592000000/ },
];

for (const { change, message } of bad) {
  t.test(`settings refused: ${JSON.stringify(change)}`, async (t) => {
    const cluster = new FoundedCluster();
    const settings = { ...defaultSettings, ...change };
    t.match(cluster.apply({ type: 'cluster.settings', settings }), {
      ok: false,
      error: { code: 'invalid', message },
    });
    t.strictSame(cluster.state.settings(), defaultSettings);
  });
}

t.test('a log runs by the defaults until it knows the settings of its cluster', async (t) => {
  t.match(raftLogLimits, { tickMs, electionTicks, heartbeatTicks, freshnessIntervalMs });
});

t.test('limits fit each other', async (t) => {
  const { newLeaderWithinMs, freshnessIntervalMsMax } = settingsLimits;
  t.ok(
    newLeaderWithinMs + 3 * freshnessIntervalMsMax <= limits.isolationBoundMsMin,
    'under the smallest D killing a leader fences nobody',
  );
  t.ok(limits.isolationBoundMsDefault >= limits.isolationBoundMsMin);
  t.ok(limits.isolationBoundMsMax >= limits.isolationBoundMsDefault);
  t.equal(commandFormatMax, snapshotFormatMax);
});

const prod: CommandBody = {
  type: 'keystore.create',
  name: 'prod',
  uriPathPrefix: '',
  regions: ['eu-central-1'],
  adopted: false,
};

t.test(
  'on-isolation: what only takes away is never refused, the rest must have seen the last change',
  async (t) => {
    const cluster = new FoundedCluster();
    const { state } = cluster;
    cluster.done(prod);
    const set = (onIsolation: OnIsolation, revision: number): CommandBody => ({
      type: 'keystore.set',
      name: 'prod',
      onIsolation,
      revision,
    });
    const stop = (boundMs: number): OnIsolation => ({ rule: 'stop', boundMs });
    t.strictSame(state.keyStore('prod')?.onIsolation, { rule: 'serve' });
    t.strictSame(cluster.apply(set(stop(10_000), 0)), { ok: true, revision: 3 }, 'towards stop');
    t.strictSame(state.keyStoreByPrefix('')?.onIsolation, stop(10_000));
    t.match(cluster.apply(set(stop(10_001), 2)), {
      ok: false,
      error: { code: 'conflict', message: /at revision 3 .*this command saw 2/ },
    });
    t.strictSame(cluster.apply(set(stop(6_000), 0)), { ok: true, revision: 5 }, 'a shorter bound');
    t.strictSame(cluster.apply(set(stop(6_000), 0)), { ok: true, revision: 6 }, 'the same again counts');
    t.match(cluster.apply(set({ rule: 'serve' }, 5)), { ok: false, error: { code: 'conflict' } });
    t.strictSame(cluster.apply(set({ rule: 'serve' }, 6)), { ok: true, revision: 8 });
    for (const boundMs of [0, 5_999, limits.isolationBoundMsMax + 1]) {
      t.match(cluster.apply(set(stop(boundMs), 8)), {
        ok: false,
        error: { code: 'invalid', message: /6 to 3600 seconds/ },
      });
    }
    t.match(cluster.apply({ ...set({ rule: 'serve' }, 1), name: 'none' } as CommandBody), {
      ok: false,
      error: { code: 'not-found' },
    });
    cluster.done({ type: 'keystore.disable', name: 'prod' });
    t.match(state.keyStore('prod'), { status: 'DISABLED', onIsolation: { rule: 'serve' } });
  },
);

const envelope = { requestId: 'r', atMs: 1, by: '' };

t.test('classes: a rule that may lengthen is a grant', async (t) => {
  const set = (onIsolation: OnIsolation): Command => ({
    ...envelope,
    type: 'keystore.set',
    name: 'prod',
    onIsolation,
    revision: 1,
  });
  t.equal(classOf(set({ rule: 'serve' })), 'grant');
  t.equal(classOf(set({ rule: 'stop', boundMs: 6_001 })), 'grant');
  t.equal(classOf(set({ rule: 'stop', boundMs: 6_000 })), 'deny');
  t.equal(classOf({ ...envelope, type: 'member.remove', memberId: 'm' }), commandClasses['member.remove']);
  t.equal(classOf({ ...envelope, type: 'pending.confirm', index: 1 }), 'grant');
});

t.test('which commands change the membership', async (t) => {
  const init: Command = { ...envelope, type: 'cluster.init', clusterId: 'c', nodeName: 'n' };
  t.equal(changesMembership(init), false);
  t.equal(changesMembership({ ...init, memberId: 'm', address: 'a:1', format: 2 }), true);
  t.equal(changesMembership({ ...envelope, type: 'member.remove', memberId: 'm' }), true);
  t.equal(changesMembership({ ...envelope, type: 'member.update', memberId: 'm', address: 'a:1' }), false);
});

t.test('what the cluster is not to know yet is refused before it is in a log', async (t) => {
  const settings: Command = { ...envelope, type: 'cluster.settings', settings: defaultSettings };
  t.match(checkActiveFormat(settings, 1), { code: 'conflict', message: /xksctl cluster upgrade --finalize/ });
  t.equal(checkActiveFormat(settings, 2), null);
  t.equal(checkActiveFormat({ ...envelope, type: 'cluster.upgrade', format: 2 }, 1), null);
  t.equal(checkActiveFormat({ ...envelope, type: 'keystore.disable', name: 'x' }, 1), null);
  t.match(checkCommand({ ...envelope, type: 'cluster.upgrade', format: 5 }), {
    code: 'invalid',
    message: /knows formats 1 to 4: install a later one on every node first/,
  });
  const init: Command = { ...envelope, type: 'cluster.init', clusterId: 'c', nodeName: 'n', memberId: 'm' };
  t.match(checkCommand(init), { code: 'invalid', message: /or none of them/ });
  t.match(checkCommand({ ...init, address: 'a:1', format: 1 }), { message: /of format 2 at least/ });
  t.equal(checkCommand({ ...init, address: 'a:1', format: 2 }), null);
});
