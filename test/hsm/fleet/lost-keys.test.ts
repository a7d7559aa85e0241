import t from 'tap';
import { LostKeys } from '../../../src/hsm/fleet/lost-keys.js';
import { objectId } from '../../../src/hsm/types.js';

const key = objectId('aa');

t.test('remembered for ten seconds, then twice as long, up to ten minutes', async (t) => {
  const lost = new LostKeys();
  let nowMs = 0;
  const spans: number[] = [];
  for (let index = 0; index < 8; index++) {
    lost.lost(key, nowMs);
    let spanMs = 0;
    while (lost.isLost(key, nowMs + spanMs)) spanMs += 1_000;
    spans.push(spanMs / 1_000);
    nowMs += spanMs;
  }
  t.strictSame(spans, [10, 20, 40, 80, 160, 320, 600, 600]);
});

t.test('told again while it is remembered changes nothing', async (t) => {
  const lost = new LostKeys();
  for (let index = 0; index < 50; index++) lost.lost(key, index);
  t.notOk(lost.isLost(key, 10_000));
});

t.test('found again it begins anew; another key, or token, is another matter', async (t) => {
  const lost = new LostKeys();
  lost.lost(key, 0);
  t.notOk(lost.isLost(objectId('bb'), 1));
  lost.found(key);
  t.notOk(lost.isLost(key, 1));
  lost.lost(key, 0);
  lost.lost(key, 10_000);
  t.ok(lost.isLost(key, 29_999));
  lost.forgetAll();
  t.notOk(lost.isLost(key, 10_001));
});

t.test('of 10,000 keys, the oldest is forgotten first', async (t) => {
  const lost = new LostKeys();
  for (let index = 0; index <= 10_000; index++) lost.lost(objectId(`k${index}`), 0);
  t.notOk(lost.isLost(objectId('k0'), 1));
  t.ok(lost.isLost(objectId('k1'), 1));
  t.ok(lost.isLost(objectId('k10000'), 1));
});
