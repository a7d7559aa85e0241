import t from 'tap';
import { refusalFlags } from '../../src/hsm/cells.js';
import { CiphertextDoubt, distrustMs } from '../../src/hsm/ciphertext-doubt.js';

t.test(
  'three refusals, two without time; of a token with spurious codes five, and no less (X-X2)',
  async (t) => {
    const doubt = new CiphertextDoubt(7_000_000);
    t.equal(doubt.asked(0, 150, false).flags, refusalFlags(3, 2, 1));
    t.ok(doubt.isEnough(1, 0), 'a code that says what it means');
    t.equal(doubt.asked(0, 150, true).flags, refusalFlags(3, 2, 0), 'but not from one that has just failed');
    doubt.spurious(1_000);
    t.equal(doubt.asked(1_000, 1_150, false).flags, refusalFlags(5, 5, 5));
    t.equal(doubt.asked(1_000, 1_150, true).flags, refusalFlags(5, 5, 5));
    t.notOk(doubt.isEnough(4, 1_000), 'what was asked for before that came to light');
    t.ok(doubt.isEnough(5, 1_000));
  },
);

t.test('it is held against the token for a minute after the last one', async (t) => {
  const doubt = new CiphertextDoubt(7_000_000);
  doubt.spurious(1_000);
  doubt.spurious(31_000);
  t.equal(doubt.asked(31_000 + distrustMs - 1, 0, false).flags, refusalFlags(5, 5, 5));
  t.equal(doubt.asked(31_000 + distrustMs, 0, false).flags, refusalFlags(3, 2, 1));
  t.ok(doubt.isEnough(2, 31_000 + distrustMs));
});

t.test('asked again until 20 ms before the deadline', async (t) => {
  const doubt = new CiphertextDoubt(7_000_000);
  t.equal(doubt.asked(1_000, 1_150.5, false).untilMicros, 7_000_000 + 1_130_500);
  t.equal(doubt.asked(1_000, 1_010, false).untilMicros, 7_000_000 + 990_000, 'no more');
  t.equal(
    doubt.asked(1_000, Number.POSITIVE_INFINITY, false).untilMicros,
    7_000_000 + 1_801_000_000,
    'in half an hour',
  );
});

t.test('each count has its four bits of the cell', async (t) => {
  t.equal(refusalFlags(15, 0, 0), 0xf_0000);
  t.equal(refusalFlags(0, 15, 0), 0xf0_0000);
  t.equal(refusalFlags(0, 0, 15), 0xf00_0000);
});
