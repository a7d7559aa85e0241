import { closeSync, openSync } from 'node:fs';
import t from 'tap';
import { openedBy } from '../../bench/target/process-holdings.js';

t.test('a file that is open counts, a process that is not there has nothing', async (t) => {
  const before = openedBy(process.pid);
  const fd = openSync('/dev/null', 'r');
  const after = openedBy(process.pid);
  closeSync(fd);
  t.equal((after?.descriptors ?? 0) - (before?.descriptors ?? 0), 1);
  t.ok((after?.threads ?? 0) > 1);
  t.equal(openedBy(2 ** 30), null);
});
