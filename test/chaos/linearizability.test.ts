import t from 'tap';
import { type KeyOperation, type KeyState, linearizabilityProblem } from './linearizability.js';

const initial: KeyState = { status: 'ENABLED', revision: 1 };

type Kind = KeyOperation['kind'];
const operation = (
  kind: Kind,
  invokedMs: number,
  endedMs: number | null,
  status: KeyState['status'] = 'ENABLED',
  revision = 1,
): KeyOperation => ({ kind, invokedMs, endedMs, seen: endedMs === null ? null : { status, revision } });

const verdict = (...operations: readonly KeyOperation[]): string =>
  linearizabilityProblem(initial, operations) ?? 'linearizable';

t.test('histories that one key could have', async (t) => {
  t.equal(verdict(), 'linearizable', 'none');
  t.equal(
    verdict(
      operation('disable', 0, 1, 'DISABLED', 2),
      operation('read', 2, 3, 'DISABLED', 2),
      operation('enable', 4, 5, 'ENABLED', 3),
      operation('read', 6, 7, 'ENABLED', 3),
    ),
    'linearizable',
    'one after the other',
  );
  t.equal(
    verdict(
      operation('enable', 0, 1, 'ENABLED', 1),
      operation('disable', 2, 3, 'DISABLED', 4),
      operation('disable', 4, 5, 'DISABLED', 5),
    ),
    'linearizable',
    'a change that changes nothing names the one before',
  );
  t.equal(
    verdict(
      operation('disable', 0, 10, 'DISABLED', 2),
      operation('read', 1, 2, 'ENABLED', 1),
      operation('read', 3, 4, 'DISABLED', 2),
    ),
    'linearizable',
    'a look during a change sees it or not',
  );
  t.equal(
    verdict(
      operation('disable', 0, null),
      operation('read', 1, 2, 'ENABLED', 1),
      operation('read', 50, 60, 'DISABLED', 9),
    ),
    'linearizable',
    'a lost answer, carried out late',
  );
  t.equal(
    verdict(
      operation('disable', 0, null),
      operation('read', 1, 2, 'ENABLED', 1),
      operation('read', 50, 60, 'ENABLED', 1),
    ),
    'linearizable',
    'a lost answer, never carried out',
  );
});

t.test('histories that no key can have', async (t) => {
  t.match(
    verdict(operation('disable', 0, 1, 'DISABLED', 2), operation('read', 2, 3, 'ENABLED', 1)),
    /no order explains/,
    'a lost disable',
  );
  t.match(
    verdict(
      operation('disable', 0, 10, 'DISABLED', 2),
      operation('read', 1, 2, 'DISABLED', 2),
      operation('read', 3, 4, 'ENABLED', 1),
    ),
    /no order explains/,
    'a look that goes back',
  );
  t.match(
    verdict(
      operation('disable', 0, 1, 'DISABLED', 2),
      operation('enable', 2, 3, 'ENABLED', 3),
      operation('read', 4, 5, 'DISABLED', 4),
    ),
    /no order explains/,
    'a change carried out twice',
  );
  t.match(
    verdict(operation('disable', 0, 1, 'DISABLED', 7), operation('enable', 2, 3, 'ENABLED', 6)),
    /no order explains/,
    'an index that goes back',
  );
  t.match(
    verdict(operation('enable', 0, 1, 'ENABLED', 3), operation('disable', 2, 3, 'DISABLED', 5)),
    /no order explains/,
    'an enable that nobody asked for',
  );
});

t.test('a long history is checked soon', async (t) => {
  const history: KeyOperation[] = [];
  for (let turn = 0; turn < 2_000; turn += 1) {
    const off = turn % 2 === 0;
    history.push(
      operation(
        off ? 'disable' : 'enable',
        turn * 10,
        turn * 10 + 25,
        off ? 'DISABLED' : 'ENABLED',
        turn + 2,
      ),
    );
    if (turn % 100 === 0) history.push(operation('enable', turn * 10, null));
  }
  t.equal(linearizabilityProblem(initial, history), null);
});
