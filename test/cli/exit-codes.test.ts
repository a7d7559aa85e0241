import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { exitCodes } from '../../src/cli/command-failure.js';

t.test('docs/operating.md tells every exit code, and no other', async (t) => {
  const text = readFileSync(fileURLToPath(new URL('../../../docs/operating.md', import.meta.url)), 'utf8');
  const table = /^\| exit \|.*\n\|[- |]+\n((?:\|.*\n)+)/m.exec(text)?.[1] ?? '';
  const told = [...table.matchAll(/^\| (\d+) +\|/gm)].map(([, code]) => Number(code));
  t.strictSame(told, Object.values(exitCodes));
});
