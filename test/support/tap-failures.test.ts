import t from 'tap';
import { tapFailures } from './tap-failures.js';

const output = `TAP version 14
# Subtest: outer
    ok 1 - fine
    not ok 2 - should be equal
      ---
      compare: ===
      source: |
        t.equal(1, 2);

        ---------^
      diff: |
        --- expected
        -2
        +1
      ...
    1..2
not ok 1 - outer # time=3ms

1..1
`;

t.test('each failure comes with its diagnostics, and without the source', async (t) => {
  t.strictSame(tapFailures(output), [
    '    not ok 2 - should be equal',
    '      compare: ===',
    '      diff: |',
    '        --- expected',
    '        -2',
    '        +1',
    'not ok 1 - outer # time=3ms',
  ]);
  t.strictSame(tapFailures('ok 1 - fine\n1..1\n'), []);
});

t.test('no failure takes more room than others have left', async (t) => {
  const lines = Array.from({ length: 100 }, () => `    ${'x'.repeat(1_000)}`);
  const [first = '', ...rest] = tapFailures(
    [`not ok 1 - ${'y'.repeat(1_000)}`, '  ---', ...lines, '  ...'].join('\n'),
  );
  t.equal(first.length, 400);
  t.equal(rest.length, 24);
  t.equal(rest[0]?.length, 400);
});
