import t from 'tap';
import type { CellOutcome } from '../../src/hsm/cells.js';
import { ServiceTime } from '../../src/hsm/service-time.js';

const took = (micros: number, result: CellOutcome['result'] = 'ok'): CellOutcome => ({
  result,
  isTrial: false,
  rv: 0,
  functionIndex: 0,
  loginLost: false,
  micros,
  roundTrips: 3,
  refusals: 0,
  encryptions: 0,
  spurious: false,
  doubted: false,
});

function measured(...micros: readonly number[]): ServiceTime {
  const time = new ServiceTime();
  for (const each of micros) time.measured(took(each));
  return time;
}

const times = (count: number, micros: number): readonly number[] =>
  Array.from({ length: count }, () => micros);

t.test('the average of what differs little is its mean', async (t) => {
  const time = measured(...Array.from({ length: 1_000 }, (_, index) => (index % 2 === 0 ? 4_000 : 2_000)));
  t.ok(Math.abs(time.operationMicros - 3_000) < 100, String(time.operationMicros));
  t.equal(time.operations, 1_000);
  t.equal(time.roundTrips, 3_000);
});

t.test('one or two calls that hung move it little', async (t) => {
  t.ok(measured(...times(50, 100), ...times(2, 10_000_000)).operationMicros < 400);
});

t.test('a token that has become slower, or quicker, is known for it after a few operations', async (t) => {
  t.ok(measured(...times(50, 100), ...times(8, 80_000)).operationMicros > 40_000);
  t.ok(measured(...times(50, 80_000), ...times(8, 100)).operationMicros < 20_000);
});

t.test('hangs that return together count no more than half a second each', async (t) => {
  t.ok(measured(...times(50, 100), ...times(20, 10_000_000)).operationMicros <= 500_000);
});

t.test('what fails at once says nothing of how long an operation usually takes', async (t) => {
  const time = measured(...times(50, 80_000));
  for (let index = 0; index < 50; index++) time.measured(took(10, 'failed'));
  t.equal(time.typicalMicros, 80_000);
  t.notOk(time.isQuick);
});
