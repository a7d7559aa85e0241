import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { readSmallFile, SmallFileError } from '../../src/base/small-file.js';

t.test('a file as long as may be, empty, and one of /proc, which has no size', async (t) => {
  const directory = t.testdir({ empty: '', full: 'x'.repeat(10_000) });
  t.equal(readSmallFile(join(directory, 'empty'), 0).bytes.byteLength, 0);
  const full = readSmallFile(join(directory, 'full'), 10_000);
  t.equal(full.bytes.toString(), 'x'.repeat(10_000));
  t.equal(full.mode, statSync(join(directory, 'full')).mode);
  t.match(readSmallFile('/proc/self/status', 65_536).bytes.toString(), /^Name:.*\nPid:/s);
});

t.test('what is too long, and what is no file, is refused at once', async (t) => {
  const directory = t.testdir({ long: 'x'.repeat(11) });
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  for (const [path, reason] of [
    [join(directory, 'long'), 'longer than 10 bytes'],
    ['/proc/self/status', 'longer than 10 bytes'],
    [fifo, 'not a regular file'],
    ['/dev/zero', 'not a regular file'],
    [directory, 'a directory: give the file in it'],
  ] as const) {
    t.throws(() => readSmallFile(path, 10), new SmallFileError(reason), path);
  }
  t.throws(() => readSmallFile(join(directory, 'none'), 10), { code: 'ENOENT' });
});

t.test('of a file that was read, or was too long, nothing is left but what was returned', async (t) => {
  const directory = t.testdir({ key: 'k'.repeat(9_000) });
  const buffers: Buffer[] = [];
  const { alloc } = Buffer;
  t.intercept(Buffer, 'alloc', {
    value: (bytes: number) => {
      const buffer = alloc.call(Buffer, bytes);
      buffers.push(buffer);
      return buffer;
    },
  });
  const path = join(directory, 'key');
  t.equal(readSmallFile(path, 10_000).bytes.toString(), 'k'.repeat(9_000));
  t.match(readSmallFile('/proc/self/status', 65_536).bytes.toString(), /^Name:/);
  t.throws(() => readSmallFile('/proc/self/status', 10), SmallFileError);
  t.ok(buffers.length >= 5, `${buffers.length} buffers`);
  for (const buffer of buffers) t.ok(buffer.every((byte) => byte === 0));
});
