import t from 'tap';
import { formatAmzDate, parseAmzDate } from '../../src/sigv4/amz-date.js';

t.test('X-A1: days from the year 0 to 9999, all of some decades, are what Date makes of them', async (t) => {
  const first = Date.parse('0000-01-01T00:00:00Z');
  const last = Date.parse('9999-12-31T00:00:00Z');
  const msPerDay = 86_400_000;
  const eachDay = (atMs: number): boolean => Math.abs(atMs - Date.UTC(2050, 0)) < 20_000 * msPerDay;
  for (let day = first, of = 0; day <= last; day += (eachDay(day) ? 1 : 13) * msPerDay, of++) {
    const atMs = day + (of % 86_400) * 1_000;
    if (parseAmzDate(formatAmzDate(atMs)) !== atMs) t.fail(formatAmzDate(atMs));
  }
});

t.test('X-A1: what is no date is none', async (t) => {
  for (const text of [
    '20240230T000000Z',
    '20230229T000000Z',
    '19000229T000000Z',
    '20240431T000000Z',
    '20240001T000000Z',
    '20241301T000000Z',
    '20240100T000000Z',
    '20240101T240000Z',
    '20240101T006000Z',
    '20240101T000060Z',
    '20240101T000000',
    ' 20240101T000000Z',
    '20240101T000000Z\n',
    '２0240101T000000Z',
  ]) {
    t.equal(parseAmzDate(text), null, JSON.stringify(text));
  }
  t.equal(parseAmzDate('20000229T235959Z'), Date.UTC(2000, 1, 29, 23, 59, 59));
});
