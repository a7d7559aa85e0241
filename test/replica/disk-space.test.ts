import t from 'tap';
import { DiskSpace, freeBytesWarning } from '../../src/replica/disk-space.js';
import { systemFiles } from '../../src/replication/file-operations.js';
import { makeReplica } from './replica-at-seams.js';

t.test(
  'the room left is what the disk says, and not known before anybody looked or once it fails',
  async (t) => {
    const path = t.testdir();
    const space = new DiskSpace({ path, files: systemFiles });
    t.equal(space.freeBytes, null);
    await space.look();
    t.ok(Number(space.freeBytes) > 0);
    let fails = false;
    const files = { ...systemFiles, freeBytes: async () => (fails ? Promise.reject(new Error('EIO')) : 17) };
    const failing = new DiskSpace({ path, files });
    await failing.look();
    t.equal(failing.freeBytes, 17);
    fails = true;
    await failing.look();
    t.equal(failing.freeBytes, null);
    fails = false;
    await failing.look();
    t.equal(failing.freeBytes, 17);
  },
);

t.test('a disk that hangs is asked once', async (t) => {
  const asked: ((bytes: number) => void)[] = [];
  const freeBytes = () => new Promise<number>((resolve) => void asked.push(resolve));
  const space = new DiskSpace({ path: '/data', files: { ...systemFiles, freeBytes } });
  const first = space.look();
  await space.look();
  t.equal(asked.length, 1);
  asked[0]?.(5);
  await first;
  t.equal(space.freeBytes, 5);
});

t.test('status says when little room is left', async (t) => {
  const { run, diskSpace } = await makeReplica(t);
  const found = async (): Promise<string> => {
    const status = await run('status', {});
    if (!status.ok) throw new Error(status.error.message);
    return status.value.degraded.join('\n');
  };
  diskSpace.freeBytes = freeBytesWarning;
  t.notMatch(await found(), /disk of the data directory/);
  diskSpace.freeBytes = freeBytesWarning - 1;
  t.match(await found(), /^the disk of the data directory has 255 MiB left: free some/m);
  diskSpace.freeBytes = null;
  t.notMatch(await found(), /disk of the data directory/);
});
