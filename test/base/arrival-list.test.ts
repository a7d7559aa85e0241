import t from 'tap';
import { type Arrival, ArrivalList } from '../../src/base/arrival-list.js';
import { SeededRandom } from '../support/seeded-random.js';

interface Numbered extends Arrival<Numbered> {
  readonly number: number;
}

const numbered = (number: number): Numbered => ({ number, before: null, after: null });

function numbersIn(list: ArrivalList<Numbered>): number[] {
  const numbers: number[] = [];
  list.each(({ number }) => numbers.push(number));
  return numbers;
}

t.test('entries stay in the order of their arrival, whichever are taken out', async (t) => {
  const random = new SeededRandom(3);
  const list = new ArrivalList<Numbered>();
  let expected: Numbered[] = [];
  for (let number = 0; number < 3_000; number++) {
    if (expected.length > 0 && random.integer(20) < (number < 1_500 ? 9 : 11)) {
      const out = expected[random.integer(expected.length)] ?? numbered(-1);
      list.remove(out);
      t.same([out.before, out.after], [null, null]);
      expected = expected.filter((entry) => entry !== out);
    } else {
      const entry = numbered(number);
      list.add(entry);
      expected.push(entry);
    }
    if (list.size !== expected.length || list.first !== (expected[0] ?? null)) t.fail(`step ${number}`);
  }
  t.same(
    numbersIn(list),
    expected.map(({ number }) => number),
  );
});

t.test('what is visited may be taken out, and come again', async (t) => {
  const list = new ArrivalList<Numbered>();
  for (let number = 0; number < 6; number++) list.add(numbered(number));
  list.each((entry) => {
    if (entry.number % 2 === 0) list.remove(entry);
  });
  t.same(numbersIn(list), [1, 3, 5]);
  const { first } = list;
  if (first === null) return;
  list.remove(first);
  list.add(first);
  t.same(numbersIn(list), [3, 5, 1]);
  list.each((entry) => list.remove(entry));
  t.same(numbersIn(list), []);
  t.equal(list.size, 0);
  t.equal(list.first, null);
});

t.test('an entry that is in no list is not taken out, and one that is in a list not added', async (t) => {
  const list = new ArrivalList<Numbered>();
  const entries = [numbered(0), numbered(1), numbered(2)] as const;
  for (const entry of entries) list.add(entry);
  list.remove(entries[1]);
  t.throws(() => list.remove(entries[1]));
  for (const entry of [entries[0], entries[2]]) t.throws(() => list.add(entry));
  t.same(numbersIn(list), [0, 2]);
  list.remove(entries[0]);
  t.throws(() => list.add(entries[2]), 'the only one too');
});
