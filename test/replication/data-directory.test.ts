import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { initialiseDataDirectory, openDataDirectory } from '../../src/replication/data-directory.js';
import { systemFiles } from '../../src/replication/file-operations.js';
import { emptyDisk, initialise as initialiseDurable, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

/** On the real file system, with the real lock. */
const { tryLockFile } = loadNativeBinding();
const files = systemFiles;
const identity = { nodeName: 'node-a', clusterId: 'cluster-1', memberId: 'member-1' };

const initialise = (dir: string) => initialiseDataDirectory({ dir, files, ...identity });
const open = (dir: string, nodeName = 'node-a') =>
  openDataDirectory({ dir, nodeName, files, tryLockFile, pid: process.pid });

const failure = (message: RegExp) => ({ ok: false, error: { message } });

t.test('what is made is ours alone, and opens', async (t) => {
  const dir = join(t.testdir(), 'data');
  t.match(await initialise(dir), { ok: true });
  t.equal(statSync(dir).mode & 0o7777, 0o700);
  for (const name of readdirSync(dir, { recursive: true, encoding: 'utf8' })) {
    const info = statSync(join(dir, name));
    t.equal(info.mode & 0o7777, info.isDirectory() ? 0o700 : 0o600, name);
  }
  const opened = await open(dir);
  if (!opened.ok) throw new Error(opened.error.message);
  t.strictSame(opened.value.identity, identity);
  await opened.value.close();
});

t.test('one process at a time: the second is told who has it', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const first = await open(dir);
  if (!first.ok) throw new Error(first.error.message);
  t.match(await open(dir), failure(new RegExp(`is in use by process ${process.pid}: one xksd at a time`)));
  await first.value.close();
  const second = await open(dir);
  t.match(second, { ok: true }, 'free again');
  if (second.ok) await second.value.close();
});

t.test('a disk too full for the process id in the lock does not keep a node from starting', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialiseDurable(disk);
  // 0 empties the lock file.
  const full = new MemoryDisk(disk.image(), new SeededRandom(1), { operation: 1, code: 'ENOSPC' });
  const opened = await openNode(full, new ListMachine());
  t.match(opened, { ok: true });
  if (opened.ok) await opened.value.close();
});

t.test('a directory that was never initialised', async (t) => {
  const dir = t.testdir({ empty: {} });
  chmodSync(join(dir, 'empty'), 0o700);
  t.match(
    await open(join(dir, 'missing')),
    failure(/does not exist: make this node a cluster with "xksctl cluster init"/),
  );
  t.match(
    await open(join(dir, 'empty')),
    failure(/is empty: make this node a cluster with "xksctl cluster init"/),
  );
  t.match(await initialise(join(dir, 'empty')), { ok: true }, 'an empty one may be used');
  t.match(await initialise(join(dir, 'a', 'b')), failure(/\/a does not exist/));
});

t.test('a directory that is something else', async (t) => {
  const dir = t.testdir({
    file: 'x',
    other: { 'notes.txt': 'x' },
    mounted: { 'lost+found': {}, 'pin-refusals.json': '{}' },
  });
  for (const name of ['other', 'mounted']) chmodSync(join(dir, name), 0o700);
  t.match(await open(join(dir, 'file')), failure(/is not a directory/));
  t.match(await initialise(join(dir, 'file')), failure(/is not a directory/));
  t.match(await open(join(dir, 'other')), failure(/is not a data directory of xksd/));
  t.match(await initialise(join(dir, 'other')), failure(/is not empty \(it holds notes.txt\)/));
  t.match(await open(join(dir, 'mounted')), failure(/is empty/));
  t.match(
    await initialise(join(dir, 'mounted')),
    { ok: true },
    'a mount point, and a record of refused PINs',
  );
  t.match(await initialise(join(dir, 'mounted')), failure(/is a data directory already/));
});

t.test('others may not enter', async (t) => {
  const dir = join(t.testdir(), 'data');
  mkdirSync(dir, { mode: 0o700 });
  chmodSync(dir, 0o750);
  t.match(await initialise(dir), failure(/has mode 0750: only its owner may enter it; run: chmod 700/));
  chmodSync(dir, 0o700);
  await initialise(dir);
  chmodSync(dir, 0o701);
  t.match(await open(dir), failure(/has mode 0701/));
});

t.test("another node's directory", async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  t.match(
    await open(dir, 'node-b'),
    failure(/belongs to node "node-a", and this node is "node-b": set \[node\] name/),
  );
  const opened = await open(dir);
  t.match(opened, { ok: true }, 'the refusal left it unlocked');
  if (opened.ok) await opened.value.close();
});

t.test('identity: another format, damage, loss', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const path = join(dir, 'identity.json');
  const text = readFileSync(path, 'utf8');
  writeFileSync(path, text.replace('"format": 1', '"format": 2'));
  t.match(await open(dir), failure(/has format 2 and this version of xksd reads format 1.*install that one/));
  writeFileSync(path, text.replace('cluster-1', 'cluster-2'));
  t.match(
    await open(dir),
    failure(/does not match its checksum; restore identity.json from a backup of this node/),
  );
  writeFileSync(path, text.slice(0, -3));
  t.match(await open(dir), failure(/is damaged: it is not JSON/));
  rmSync(path);
  t.match(
    await open(dir),
    failure(/has no identity.json: "xksctl cluster init" was interrupted there, or the file was lost/),
  );
  writeFileSync(path, text);
  rmSync(join(dir, 'log'), { recursive: true });
  t.match(await open(dir), failure(/has no log\/: restore the directory from a backup/));
});

t.test('a lock that the system refuses otherwise, and a system that refuses all', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const refused = await openDataDirectory({ dir, nodeName: 'node-a', files, tryLockFile: () => 37, pid: 1 });
  t.match(refused, failure(/cannot lock the data directory .*: errno 37/));
  const denied = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
  const closed = { ...files, list: () => Promise.reject(denied) };
  t.match(
    await openDataDirectory({ dir, nodeName: 'node-a', files: closed, tryLockFile, pid: 1 }),
    failure(/cannot open the data directory .*EACCES.*must belong to the user that xksd runs as/),
  );
});
