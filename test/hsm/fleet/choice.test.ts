import t from 'tap';
import { chooseToken, Standing } from '../../../src/hsm/fleet/choice.js';

const token = (name: string, index: number, outstanding: number, standing: Standing = Standing.well) => ({
  name,
  bit: 1 << index,
  outstanding,
  standing,
});

const choose = (
  candidates: readonly ReturnType<typeof token>[],
  more: { leftOut?: number; worst?: Standing; turn?: number } = {},
): string | null =>
  chooseToken(candidates, {
    leftOut: 0,
    worst: Standing.withoutKey,
    turn: 0,
    standing: ({ standing }) => standing,
    ...more,
  })?.name ?? null;

t.test('the least outstanding work, and ties rotate', async (t) => {
  t.equal(choose([token('a', 0, 3), token('b', 1, 1), token('c', 2, 2)]), 'b');
  const tied = [token('a', 0, 1), token('b', 1, 1), token('c', 2, 5)];
  t.strictSame(
    [0, 1, 2, 3].map((turn) => choose(tied, { turn })),
    ['a', 'b', 'a', 'a'],
  );
});

t.test('how a token stands comes before how busy it is', async (t) => {
  const rows = [
    token('without the key', 0, 0, Standing.withoutKey),
    token('unavailable', 1, 1, Standing.unavailable),
    token('out', 2, 2, Standing.out),
    token('well', 3, 100, Standing.well),
  ];
  const order: (string | null)[] = [];
  let leftOut = 0;
  while (order.at(-1) !== null) {
    const name = choose(rows, { leftOut });
    order.push(name);
    leftOut |= rows.find((row) => row.name === name)?.bit ?? 0;
  }
  t.strictSame(order, ['well', 'out', 'unavailable', 'without the key', null]);
});

t.test('the last one is asked however ill it is, unless only a well one will do', async (t) => {
  const ill = [token('a', 0, 9, Standing.out)];
  t.equal(choose(ill), 'a');
  t.equal(choose(ill, { worst: Standing.well }), null);
  t.equal(choose([token('a', 0, 0)], { leftOut: 1 }), null);
  t.equal(choose([]), null);
});
