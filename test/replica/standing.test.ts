import t from 'tap';
import { judgeStanding, type StandingInputs } from '../../src/replica/standing.js';

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
