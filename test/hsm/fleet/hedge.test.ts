import t from 'tap';
import { HedgeBudget, hedgeAfterMs, silentAtMs } from '../../../src/hsm/fleet/hedge.js';

/** Hedges granted for so many operations, each of which would have one. */
function hedgesOf(budget: HedgeBudget, operations: number): number {
  let hedges = 0;
  for (let index = 0; index < operations; index++) {
    budget.earn();
    if (budget.take(0)) hedges += 1;
  }
  return hedges;
}

t.test('at most 5 % of the operations, and a burst of ten', async (t) => {
  const budget = new HedgeBudget();
  t.equal(hedgesOf(budget, 10_000), 500 + 10 - 1);
  t.equal(hedgesOf(budget, 2_000), 100, 'what was used up is used up');
  for (let index = 0; index < 100_000; index++) budget.earn();
  t.equal(hedgesOf(budget, 20), 10, 'and no more than a burst is saved');
});

t.test('none for a second after a token had no room', async (t) => {
  const budget = new HedgeBudget();
  budget.overloaded(5_000);
  t.notOk(budget.take(5_999));
  t.ok(budget.isOverloaded(5_999));
  t.ok(budget.take(6_000));
});

t.test('at the 95th percentile, no sooner than 10 ms', async (t) => {
  t.equal(hedgeAfterMs(0.2), 10);
  t.equal(hedgeAfterMs(35), 35);
  t.equal(hedgeAfterMs(null), 50);
});

t.test('silence: after 100 ms or what is thrice slow for it, with 50 ms left for the other', async (t) => {
  t.equal(silentAtMs(1_000, 1_150, 1), 1_100);
  t.equal(silentAtMs(1_000, 1_120, 1), 1_070, 'the other needs its time');
  t.equal(silentAtMs(1_000, 11_000, 1), 1_100, 'a long deadline is no reason to wait for it');
  t.equal(silentAtMs(1_000, 11_000, 200), 1_600, 'a slow token is not silent');
  t.equal(silentAtMs(1_000, 11_000, null), 1_100);
  t.equal(silentAtMs(1_000, 1_050, 1), Number.POSITIVE_INFINITY, 'too late for another one');
});
