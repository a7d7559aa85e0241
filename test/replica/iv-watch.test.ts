import t from 'tap';
import type { KeyStateQueries } from '../../src/keystate/types.js';
import { IvWatch, ivFindings } from '../../src/replica/iv-watch.js';
import { CapturedLogger } from '../support/captured-logger.js';
import { IvWorld, ivObject } from '../support/iv-world.js';

function watched() {
  const world = new IvWorld();
  const object = { objectId: 'bb', witness: null, checkValue: null, usage: ['ENCRYPT'], description: '' };
  world.apply({ type: 'key.create', keyStore: 's', externalKeyId: 'l', ...object });
  const logger = new CapturedLogger();
  const state = (): KeyStateQueries => world.log.machine.state;
  const watch = new IvWatch({ state, logger, encryptionsMax: 10_000 });
  const use = (objectId: string, used: number): void => {
    world.apply({ type: 'iv.reserve', holder: 'p', reservations: [{ objectId, used, ahead: 0 }] });
    watch.look();
  };
  return { world, watch, logger, use };
}

t.test('half, nine tenths and the end are said once each, with the key', async (t) => {
  const { logger, use, watch } = watched();
  use(ivObject, 4_999);
  t.strictSame(logger.lines, []);
  use(ivObject, 1);
  t.match(logger.lines, [
    {
      level: 'warn',
      message: /half of the random IVs/,
      fields: { keyStore: 's', externalKeyId: 'k', version: 1, reserved: 5_000, percent: 50 },
    },
  ]);
  use(ivObject, 3_999);
  t.equal(logger.lines.length, 1);
  use(ivObject, 1);
  watch.look();
  t.match(logger.lines.slice(1), [{ level: 'error', message: /nine tenths/ }]);
  use(ivObject, 1_000);
  use(ivObject, 1_000);
  t.match(logger.lines.slice(2), [{ level: 'error', message: /used up: it only decrypts/ }]);
  t.equal(logger.lines.length, 3);
});

t.test('a jump to the end says that alone, of a key that goes on what it does', async (t) => {
  const { world, logger, use } = watched();
  world.apply({ type: 'key.set', keyStore: 's', externalKeyId: 'k', ivBudget: 'continue' });
  use(ivObject, 12_000);
  t.match(logger.lines, [{ level: 'error', message: /encrypts beyond its random IVs, as it was told to/ }]);
  t.equal(logger.lines.length, 1);
});

t.test('metrics get the most used key version of each key store, the rest is counted by level', async (t) => {
  const { watch, use } = watched();
  t.strictSame([...watch.highest], []);
  use('bb', 2_000);
  use(ivObject, 9_500);
  t.strictSame([...watch.highest], [['s', 0.95]]);
  t.match(watch.spent, [{ externalKeyId: 'k', level: 'critical' }]);
  use('bb', 9_000);
  t.strictSame(
    watch.spent.map(({ externalKeyId, level }) => [externalKeyId, level]),
    [
      ['l', 'exhausted'],
      ['k', 'critical'],
    ],
    'the most used first',
  );
});

t.test('status names keys from nine tenths on, and not endlessly', async (t) => {
  const { world, watch, use } = watched();
  use(ivObject, 8_999);
  t.strictSame(ivFindings(watch.spent), []);
  use(ivObject, 1);
  t.strictSame(ivFindings(watch.spent), ['key s/k has used 90 % of its random IVs']);
  use(ivObject, 1_000);
  t.strictSame(ivFindings(watch.spent), ['key s/k only decrypts: it has used up its random IVs (100 %)']);
  world.apply({ type: 'key.set', keyStore: 's', externalKeyId: 'k', ivBudget: 'continue' });
  watch.look();
  t.strictSame(ivFindings(watch.spent), ['key s/k encrypts beyond its random IVs (100 %)']);
  const [one] = watch.spent;
  const many = one === undefined ? [] : Array.from({ length: 7 }, () => one);
  t.equal(ivFindings(many).length, 6);
  t.equal(ivFindings(many).at(-1), '2 more keys have used 90 % of their random IVs');
});
