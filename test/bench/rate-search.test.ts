import t from 'tap';
import { RateSearch } from '../../bench/rate-search.js';

function found(guess: number, limit: number): { readonly best: number | null; readonly tries: number } {
  const search = new RateSearch(guess);
  let tries = 0;
  for (let rate = search.next(); rate !== null; rate = search.next(), tries++)
    search.record(rate, rate <= limit);
  return { best: search.best, tries };
}

t.test('the highest good rate is found within a few per cent, above the guess and below', async (t) => {
  for (const limit of [400, 3_000, 4_990, 5_000, 5_600, 9_000]) {
    const { best, tries } = found(5_000, limit);
    t.ok(best !== null && best <= limit && best >= limit / 1.1, `${limit}: ${best} in ${tries} tries`);
  }
});

t.test('where nothing is good the search ends too', async (t) => {
  t.strictSame(found(5_000, 0), { best: null, tries: 12 });
});
