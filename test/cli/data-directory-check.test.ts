import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import {
  checkDataDirectory,
  type DataDirectorySight,
  dataDirectoryFindings,
} from '../../src/cli/data-directory-check.js';

const sight = (changes: Partial<DataDirectorySight>): DataDirectorySight => ({
  dir: '/var/lib/xksd',
  found: { isDirectory: true, mode: 0o40700, uid: 997 },
  parentExists: true,
  writeFailure: null,
  uid: 997,
  ...changes,
});
const nothing = { problems: [], notes: [] };

t.test('a directory of one’s own, for nobody else, that can be written to', async (t) => {
  t.strictSame(dataDirectoryFindings(sight({})), nothing);
  const open = { isDirectory: true, mode: 0o40750, uid: 997 };
  t.match(dataDirectoryFindings(sight({ found: open })), {
    problems: [/mode 0750.*chmod 700 \/var\/lib\/xksd/],
  });
  const closed = { isDirectory: true, mode: 0o40500, uid: 997 };
  t.match(dataDirectoryFindings(sight({ found: closed })), { problems: [/mode 0500/] });
  t.match(dataDirectoryFindings(sight({ writeFailure: 'EROFS: read-only file system' })), {
    problems: [/cannot be written to: EROFS/],
  });
});

t.test('whose it is: an obstacle to others, and root is told', async (t) => {
  t.match(dataDirectoryFindings(sight({ uid: 1_000 })), { problems: [/user with id 997, and this is 1000/] });
  t.match(dataDirectoryFindings(sight({ uid: 0 })), {
    problems: [],
    notes: [/user with id 997: xksd has to run as/],
  });
  const roots = { isDirectory: true, mode: 0o40700, uid: 0 };
  t.strictSame(dataDirectoryFindings(sight({ found: roots, uid: 0 })), nothing);
});

t.test('one that is not there yet is made later, where that is possible', async (t) => {
  t.match(dataDirectoryFindings(sight({ found: null })), {
    problems: [],
    notes: [/does not exist yet.*cluster init/],
  });
  t.match(dataDirectoryFindings(sight({ found: null, parentExists: false })), {
    problems: [/neither does \/var\/lib,/],
  });
});

t.test('as it is on the disk', async (t) => {
  const parent = t.testdir();
  const dir = join(parent, 'data');
  t.match(checkDataDirectory(dir), { problems: [], notes: [/does not exist yet/] });
  t.match(checkDataDirectory(join(dir, 'deeper')), { problems: [/neither does/] });
  mkdirSync(dir, { mode: 0o700 });
  t.strictSame(checkDataDirectory(dir), nothing);
  chmodSync(dir, 0o755);
  t.match(checkDataDirectory(dir), { problems: [/mode 0755/] });
  const file = join(parent, 'file');
  writeFileSync(file, '');
  t.match(checkDataDirectory(file), { problems: [/is not a directory/] });
  t.match(checkDataDirectory(join(file, 'data')), { problems: [/cannot be looked at: ENOTDIR/] });
});
