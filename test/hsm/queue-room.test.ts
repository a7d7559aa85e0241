import t from 'tap';
import { hasRoom, isTooLate, queuedMax } from '../../src/hsm/queue-room.js';

t.test(
  'what waits needs a quarter more than its average, and 10 ms; its own time counts as it is',
  async (t) => {
    const room = (ahead: number, msLeft: number, lanes = 1): boolean =>
      hasRoom({ ahead, lanes, operationMicros: 4_000, msLeft });
    t.ok(room(24, 24 * 4 * 1.25 + 4 + 10));
    t.notOk(room(25, 24 * 4 * 1.25 + 4 + 10), 'one more');
    t.ok(room(3, 4, 4), 'a lane is free');
    t.notOk(room(3, 3.9, 4), 'but not quick enough');
    t.notOk(room(4, 0.625 * 4 * 1.25 + 4 + 9.9, 4), 'the next of four lanes that is free');
    t.ok(room(4, 0.625 * 4 * 1.25 + 4 + 10, 4));
    t.notOk(room(7, 1.375 * 4 * 1.25 + 4 + 9.9, 4), 'one round before it');
    t.ok(room(7, 1.375 * 4 * 1.25 + 4 + 10, 4));
  },
);

t.test('the queue is bounded, however quick the token', async (t) => {
  const room = (ahead: number): boolean => hasRoom({ ahead, lanes: 2, operationMicros: 0, msLeft: 100 });
  t.ok(room(queuedMax + 1));
  t.notOk(room(queuedMax + 2));
});

t.test('too late: by the average alone, and never with a lane of its own', async (t) => {
  const late = (ahead: number, msLeft: number, lanes = 1): boolean =>
    isTooLate({ ahead, lanes, operationMicros: 4_000, msLeft });
  t.notOk(late(9, 40));
  t.ok(late(10, 40));
  t.notOk(late(19, 40, 2));
  t.ok(late(20, 40, 2));
  t.notOk(late(1, 1, 2), 'its call may be quick');
  t.notOk(isTooLate({ ahead: 100, lanes: 1, operationMicros: 0, msLeft: 1 }), 'nothing is known');
});
