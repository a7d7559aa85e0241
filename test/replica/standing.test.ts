import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { LastConfirmation } from '../../src/replica/last-confirmation.js';
import { judgeStanding, type StandingInputs } from '../../src/replica/standing.js';
import { StandingWatch } from '../../src/replica/standing-watch.js';
import { systemFiles } from '../../src/replication/file-operations.js';
import { FakeCluster } from './fake-cluster.js';
import { MemoryLog } from './memory-log.js';

const confirmed: StandingInputs = {
  fence: null,
  diverged: null,
  unconfirmedBesideLeader: false,
  confirmed: true,
  lastConfirmedAgeMs: null,
  serveStaleMaxMs: 86_400_000,
  otherLiveNodes: 2,
};
const unconfirmed: StandingInputs = { ...confirmed, confirmed: false };

t.test('a confirmed node serves, and counts itself among the live', async (t) => {
  t.strictSame(judgeStanding(confirmed), { mayServe: true, reason: '', fleetSize: 3 });
});

t.test(
  'a cold start without quorum serves by a state that was confirmed lately (replication.md 10)',
  async (t) => {
    t.ok(judgeStanding({ ...unconfirmed, lastConfirmedAgeMs: 86_400_000 }).mayServe);
    for (const [lastConfirmedAgeMs, reason] of [
      [null, /since it joined/],
      [86_400_001, /last confirmation .* is 86400 s old/],
      [-1, /no quorum can be reached/],
    ] as const) {
      t.match(judgeStanding({ ...unconfirmed, lastConfirmedAgeMs }), { mayServe: false, reason });
    }
  },
);

t.test(
  'beside a leader, a state that nobody confirms is none to serve by, however lately it was',
  async (t) => {
    const beside = { ...unconfirmed, lastConfirmedAgeMs: 1_000, unconfirmedBesideLeader: true };
    t.match(judgeStanding(beside), { mayServe: false, reason: /the leader is there/ });
    t.ok(judgeStanding({ ...beside, confirmed: true }).mayServe);
  },
);

t.test('a node that was told to stop, or whose state is in doubt, does not serve', async (t) => {
  t.match(judgeStanding({ ...confirmed, fence: 'removed' }), { mayServe: false, reason: 'removed' });
  t.match(judgeStanding({ ...confirmed, diverged: 'its state differs' }), {
    mayServe: false,
    reason: /its state differs/,
  });
});

async function watchOf(t: Test, fence: string | null = null) {
  const none = await LastConfirmation.open(systemFiles, join(t.testdir(), 'none'));
  return watchWith(none, fence);
}

function watchWith(
  lastConfirmation: Pick<LastConfirmation, 'foundAtMs' | 'confirmed'>,
  fence: string | null,
) {
  const log = new MemoryLog();
  const cluster = new FakeCluster(log);
  const watch = new StandingWatch({
    state: () => log.machine.state,
    replication: () => cluster.status(),
    lastConfirmation,
    fence,
    clock: systemClock,
    bootTimeMs: () => cluster.nowMs,
  });
  return { cluster, watch };
}

t.test('one that still catches up beside its leader is not stuck', async (t) => {
  const confirmedNow = { foundAtMs: systemClock.wallMs(), confirmed: () => {} };
  const { cluster, watch } = watchWith(confirmedNow, null);
  const after = (ms: number, raft: FakeCluster['raft']): boolean => {
    cluster.nowMs += ms;
    cluster.raft = raft;
    watch.update();
    return watch.standing().mayServe;
  };
  t.ok(after(0, { leader: null, term: 3, appliedIndex: 7 }));
  t.ok(after(60_000, { leader: null, term: 3, appliedIndex: 7 }), 'no leader');
  t.ok(after(1_000, { leader: 'm2', term: 4, appliedIndex: 7 }));
  t.ok(after(4_000, { leader: 'm2', term: 4, appliedIndex: 8 }));
  t.ok(after(4_000, { leader: 'm2', term: 4, appliedIndex: 9 }), 'entries come');
  t.ok(after(4_000, { leader: 'm3', term: 5, appliedIndex: 9 }), 'another leads');
  t.ok(after(5_000, { leader: 'm3', term: 5, appliedIndex: 9 }));
  t.notOk(after(1, { leader: 'm3', term: 5, appliedIndex: 9 }), 'nothing more comes, and nobody confirms it');
  watch.confirmed();
  t.ok(watch.standing().mayServe);
});

t.test('not serving for good is told from not serving yet', async (t) => {
  const { cluster, watch } = await watchOf(t);
  t.match(watch.standing(), { mayServe: false, fenced: false }, 'nobody has confirmed it yet');
  watch.confirmed();
  t.match(watch.standing(), { mayServe: true, fenced: false });
  cluster.loop = { halted: 'an entry cannot be applied' };
  t.match(watch.standing(), { mayServe: true, fenced: false }, 'one that is merely stuck serves on');
  cluster.raft = { lostAcknowledged: true };
  cluster.loop = { halted: 'its disk was set back' };
  t.match(watch.standing(), { mayServe: false, reason: 'its disk was set back', fenced: true });
  const heard: unknown[] = [];
  watch.watch((standing) => heard.push(standing));
  watch.fenced('removed');
  t.strictSame(
    heard,
    [{ mayServe: false, reason: 'removed', fleetSize: 1 }],
    'processes hear what they have to know',
  );
  t.match((await watchOf(t, 'removed')).watch.standing(), { reason: 'removed', fenced: true });
});
