import t from 'tap';
import { Breaker } from '../../../src/hsm/fleet/breaker.js';

/** `share` of the jitter, 0 to 1. */
const breaker = (share = 0.5): Breaker =>
  new Breaker({ bytes: () => Uint8Array.from([0, Math.min(255, share * 256)]) });

/** How long it stays open from `nowMs` on. */
const openMs = (tested: Breaker, nowMs: number): number => (tested.openUntilMs ?? Number.NaN) - nowMs;

function openAt(tested: Breaker, nowMs: number): void {
  for (let index = 0; index < 5; index++) tested.failed(nowMs);
}

t.test('five failures in a row open it, a success between them does not let them', async (t) => {
  const tested = breaker();
  for (let index = 0; index < 4; index++) t.notOk(tested.failed(0));
  tested.succeeded(0);
  for (let index = 0; index < 4; index++) t.notOk(tested.failed(0));
  t.notOk(tested.isOpen);
  t.ok(tested.failed(0));
  t.ok(tested.isOpen);
  t.notOk(tested.failed(0), 'opens once');
});

t.test('more than half of at least twenty within a second open it', async (t) => {
  /** Failures and successes in turn, `failures` in all, over `overMs`. */
  const share = (failures: number, successes: number, overMs: number): boolean => {
    const tested = breaker();
    const all = failures + successes;
    let failed = 0;
    for (let index = 0; index < all; index++) {
      const nowMs = 5_000 + (index * overMs) / all;
      if (failed * all <= index * failures && failed < failures) {
        tested.failed(nowMs);
        failed += 1;
      } else {
        tested.succeeded(nowMs);
      }
    }
    return tested.isOpen;
  };
  t.ok(share(11, 9, 500));
  t.notOk(share(10, 10, 500), 'half is not more than half');
  t.notOk(share(10, 9, 500), 'nineteen are too few');
  t.notOk(share(11, 9, 10_000), 'not within a second');
});

t.test('what was before a pause is forgotten', async (t) => {
  const tested = breaker();
  for (let index = 0; index < 12; index++) {
    tested.failed(1_000);
    if (index % 4 === 3) tested.succeeded(1_000);
  }
  t.notOk(tested.isOpen);
  for (let index = 0; index < 4; index++) tested.failed(1_000_000);
  t.notOk(tested.isOpen, 'the fifth since the last success, and four in this second');
});

t.test('open for a second, twice as long after each canary that failed, up to thirty', async (t) => {
  const tested = breaker();
  openAt(tested, 0);
  const spans = [openMs(tested, 0)];
  for (let index = 0; index < 6; index++) {
    tested.canaryFailed(0);
    spans.push(openMs(tested, 0));
  }
  t.strictSame(spans, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
});

t.test('give or take a fifth', async (t) => {
  for (const [share, expected] of [
    [0, 800],
    [0.25, 900],
    [0.5, 1_000],
  ] as const) {
    const tested = breaker(share);
    openAt(tested, 0);
    t.equal(openMs(tested, 0), expected);
  }
});

t.test('a canary closes it; what fails again soon is out longer, what fails later anew', async (t) => {
  const tested = breaker();
  openAt(tested, 0);
  tested.canaryPassed(1_000, true);
  t.notOk(tested.isOpen);
  for (let index = 0; index < 4; index++) t.notOk(tested.failed(1_000), 'it counts from the beginning');
  t.ok(tested.failed(1_000));
  t.equal(openMs(tested, 1_000), 2_000, 'a relapse');
  tested.canaryPassed(3_000, true);
  openAt(tested, 63_000);
  t.equal(openMs(tested, 63_000), 1_000, 'a minute later');
  t.equal(tested.opened, 3);
});

t.test('a canary has nothing to say while it is closed', async (t) => {
  const tested = breaker();
  tested.canaryFailed(0);
  t.notOk(tested.isOpen);
  t.equal(tested.openUntilMs, null);
});

t.test('on trial without a test key: the first failure opens it again, a success ends that', async (t) => {
  const tested = breaker();
  openAt(tested, 0);
  tested.canaryPassed(1_000, false);
  t.ok(tested.failed(1_100), 'one is enough');
  t.equal(openMs(tested, 1_100), 2_000);
  tested.canaryPassed(3_100, false);
  tested.succeeded(3_200);
  for (let index = 0; index < 4; index++) t.notOk(tested.failed(3_300));
  t.ok(tested.failed(3_300));
});

t.test('on trial where a canary passed, and the token failed all the same', async (t) => {
  const tested = breaker();
  openAt(tested, 0);
  tested.canaryPassed(1_000, true);
  t.notOk(tested.failed(1_100), 'the canary is believed once');
  for (let index = 0; index < 4; index++) tested.failed(1_100);
  t.ok(tested.isOpen);
  tested.canaryPassed(3_100, true);
  t.ok(tested.failed(3_200));
  tested.canaryPassed(7_200, true);
  tested.succeeded(7_300);
  openAt(tested, 100_000);
  tested.canaryPassed(101_000, true);
  t.notOk(tested.failed(101_100), 'and again when it has been well for a while');
});
