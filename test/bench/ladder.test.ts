import t from 'tap';
import { ladderFaults, ladderTable } from '../../bench/ladder/ladder-results.js';
import { benchRun } from '../support/bench-run.js';

t.test('a ladder has the faults of all its loads', async (t) => {
  const good = { rung: 'node', open: benchRun('node, open'), closed: benchRun('node, closed') } as const;
  t.strictSame(ladderFaults([good]), []);
  const bad = {
    rung: 'http',
    open: benchRun('http, open', { late: 3, dropped: 2 }),
    closed: benchRun('http, closed', { answered: 0 }),
  } as const;
  t.match(ladderFaults([good, bad]), [
    /^http, open: 2 were not sent/,
    /^http, open: 3 were sent late/,
    /^http, closed: nothing was answered/,
  ]);
});

t.test('each rung is shown with what it adds to the one before', async (t) => {
  const table = ladderTable(
    [
      { rung: 'node', open: benchRun('', {}, 10_000), closed: benchRun('', {}, 8_000) },
      { rung: 'http', open: benchRun('', {}, 40_000), closed: benchRun('', {}, 14_000) },
    ],
    1_800,
  );
  const [head, ...rungs] = table.split('\n').map((line) => line.split(/ {2,}/));
  t.strictSame(head?.slice(1), ['CPU µs', 'added', 'req/s', 'CPU µs at 1800/s', 'p50 ms', 'p99', 'failed']);
  t.strictSame(
    rungs.map((cells) => cells.slice(1, 5)),
    [
      ['40', '40', '100', '50'],
      ['70', '30', '100', '200'],
    ],
  );
});
