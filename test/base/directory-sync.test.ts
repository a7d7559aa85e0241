import { join } from 'node:path';
import t from 'tap';
import { syncDirectory } from '../../src/base/directory-sync.js';

t.test('a directory is written through, and nothing else is', async (t) => {
  const directory = t.testdir({ file: '' });
  await syncDirectory(directory);
  await t.rejects(syncDirectory(join(directory, 'file')), { code: 'ENOTDIR' });
  await t.rejects(syncDirectory(join(directory, 'none')), { code: 'ENOENT' });
});
