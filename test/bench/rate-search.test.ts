import t from 'tap';
import { RateSearch } from '../../bench/rate-search.js';

function found(guess: number, limit: number) {
  const search = new RateSearch(guess);
  let tries = 0;
  for (let rate = search.next(); rate !== null; rate = search.next(), tries++)
    search.record(rate, rate <= limit);
  return { best: search.best, tries, doubt: search.doubt };
}

t.test('the highest good rate is found within a few per cent, above the guess and below', async (t) => {
  for (const limit of [400, 3_000, 4_990, 5_000, 5_600, 9_000]) {
    const { best, tries, doubt } = found(5_000, limit);
    t.equal(doubt, null);
    t.ok(best !== null && best <= limit && best >= limit / 1.1, `${limit}: ${best} in ${tries} tries`);
  }
});

t.test('where nothing is good the search ends too', async (t) => {
  t.strictSame(found(5_000, 0), { best: null, tries: 16, doubt: 'no rate was good' });
});

t.test('a search that ends before it is near says how near it came', async (t) => {
  t.match(found(5_000, 80), { tries: 16, doubt: /^it lies between \d\d\/s and \d\d\/s/ });
  t.match(found(5_000, 1e9), { tries: 16, doubt: /nothing higher was bad/ });
});
