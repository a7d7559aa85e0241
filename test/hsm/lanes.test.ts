import t from 'tap';
import { type LaneDemand, lanesWanted, typicalMicros } from '../../src/hsm/lanes.js';

const demand = (changes: Partial<LaneDemand>): LaneDemand => ({
  outstanding: 0,
  overdue: 0,
  abandoned: 0,
  typicalMicros: 40,
  lanesMin: 1,
  lanesMax: 64,
  ...changes,
});

t.test('a quick token has one lane whatever waits, or one for each worker', async (t) => {
  for (const outstanding of [0, 1, 2, 300]) t.equal(lanesWanted(demand({ outstanding })), 1);
  t.equal(lanesWanted(demand({ outstanding: 300, typicalMicros: 150 })), 1);
  t.equal(lanesWanted(demand({ outstanding: 300, typicalMicros: 0 })), 1, 'and one that is not known yet');
  t.equal(lanesWanted(demand({ outstanding: 300, lanesMin: 2 })), 2);
});

t.test('a slow token has one for each operation at once, up to the most', async (t) => {
  const slow = { typicalMicros: 151 };
  t.equal(lanesWanted(demand({ ...slow })), 1);
  t.equal(lanesWanted(demand({ ...slow, outstanding: 7 })), 7);
  t.equal(
    lanesWanted(demand({ ...slow, outstanding: 7, overdue: 5 })),
    7,
    'a call that is out is one of them',
  );
  t.equal(lanesWanted(demand({ ...slow, outstanding: 300 })), 64);
  t.equal(lanesWanted(demand({ ...slow, outstanding: 300, lanesMax: 1 })), 1);
});

t.test('a lane inside a call that does not return is made up for', async (t) => {
  t.equal(lanesWanted(demand({ outstanding: 9, overdue: 1 })), 2, 'before anybody knows that it hangs');
  t.equal(lanesWanted(demand({ outstanding: 9, overdue: 1, abandoned: 3 })), 5);
  t.equal(lanesWanted(demand({ outstanding: 9, abandoned: 3, typicalMicros: 5_000 })), 12);
  t.equal(lanesWanted(demand({ outstanding: 9, abandoned: 70 })), 64);
});

t.test(
  'where several are overdue the token has become slow: as many again, as long as anything waits',
  async (t) => {
    t.equal(lanesWanted(demand({ outstanding: 40, overdue: 4 })), 8);
    t.equal(lanesWanted(demand({ outstanding: 40, overdue: 8 })), 16);
    t.equal(lanesWanted(demand({ outstanding: 10, overdue: 8 })), 10);
    t.equal(lanesWanted(demand({ outstanding: 8, overdue: 8 })), 9, 'and one for who comes next');
  },
);

t.test(
  'what an operation usually takes: a busy machine does not make a quick token a slow one',
  async (t) => {
    const after = (known: number, samples: readonly number[]): number => samples.reduce(typicalMicros, known);
    t.equal(after(0, [4_000]), 4_000, 'the first says what is known');
    t.equal(after(64, [32]), 64 - 4, 'an eighth of what it was less');
    t.equal(after(64, [96]), 64 + 1, 'a thirty-second of what it was more');
    t.equal(after(64, [9_000]), 64 + 2, 'or of what is known');
    t.ok(after(300, Array<number>(12).fill(35)) < 100, 'finding a key at the start is soon forgotten');
    const everyTenth = Array.from({ length: 2_000 }, (_, index) => (index % 10 === 0 ? 9_000 : 40));
    t.ok(after(40, everyTenth) < 60, 'one in ten had to wait for a core');
    const slower = Array<number>(100).fill(1_000);
    t.ok(after(40, slower) > 150, 'a token that became slow is slow within a hundred operations');
    t.ok(after(1_000, Array<number>(40).fill(40)) < 60, 'and one that recovered is quick again');
  },
);
