import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import {
  ballastName,
  releaseBallast,
  remainingBytes,
  roomBesideBallastBytes,
} from '../../src/replication/ballast.js';
import { encodeChecksummed } from '../../src/replication/checksummed-json.js';
import {
  eraseJoinSecret,
  initialiseDataDirectory,
  openDataDirectory,
  settleFounder,
} from '../../src/replication/data-directory.js';
import { readFence, writeFence } from '../../src/replication/fence-file.js';
import { type FileOperations, systemFiles } from '../../src/replication/file-operations.js';
import { writeIdentity } from '../../src/replication/identity-file.js';
import { emptyDisk, initialise as initialiseDurable, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { CrashModel, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

/** On the real file system, with the real lock. */
const { tryLockFile } = loadNativeBinding();
const files = systemFiles;
const identity = {
  role: 'founder',
  nodeName: 'node-a',
  clusterId: 'cluster-1',
  memberId: 'member-1',
} as const;
const ballastBytes = 1_500_000;

const initialise = (dir: string) => initialiseDataDirectory({ dir, files, ballastBytes, ...identity });
const open = (dir: string, nodeName = 'node-a') =>
  openDataDirectory({ dir, nodeName, files, tryLockFile, pid: process.pid, ballastBytes });

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
  writeFileSync(path, text.replace('"format": 2', '"format": 4'));
  t.match(await open(dir), failure(/has format 4 and this version of xksd reads format 3.*install that one/));
  writeFileSync(path, text.replace('founder', 'joiner'));
  t.match(await open(dir), failure(/does not match its checksum/));
  writeFileSync(path, text.replace('cluster-1', 'cluster-2'));
  t.match(
    await open(dir),
    failure(
      /does not match its checksum\. In a cluster of several nodes, remove this node.*only a cluster of one/,
    ),
  );
  writeFileSync(path, text.slice(0, -3));
  t.match(await open(dir), failure(/is damaged: it is not JSON/));
  rmSync(path);
  t.match(
    await open(dir),
    failure(
      /has no identity.json: "xksctl cluster init" was interrupted there, or the file was lost.*only a cluster of one/,
    ),
  );
  writeFileSync(path, text);
  rmSync(join(dir, 'log'), { recursive: true });
  t.match(
    await open(dir),
    failure(/has no log\/\. In a cluster of several nodes, remove this node.*only a cluster of one/),
  );
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

t.test('the identity of a founder as the first version wrote it', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const { nodeName, clusterId, memberId } = identity;
  const old = encodeChecksummed({ format: 1, nodeName, clusterId, memberId });
  writeFileSync(join(dir, 'identity.json'), old);
  const opened = await open(dir);
  t.match(opened, { ok: true, value: { identity } });
  if (opened.ok) await opened.value.close();
  t.equal(readFileSync(join(dir, 'identity.json'), 'utf8'), old, 'it is left as it was');
});

t.test('a founder whom key state has as a member founds nothing any more', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const opened = await open(dir);
  if (!opened.ok) throw new Error(opened.error.message);
  const settled = { ...identity, role: 'member' } as const;
  t.strictSame(await settleFounder(opened.value), settled);
  await opened.value.close();
  const again = await open(dir);
  if (!again.ok) throw new Error(again.error.message);
  t.strictSame(again.value.identity, settled);
  t.strictSame(await settleFounder(again.value), settled, 'and nothing is left to settle');
  await again.value.close();
});

t.test('the identity of a joiner, and its secret, which is of use once', async (t) => {
  const dir = join(t.testdir(), 'data');
  const peers = [{ name: 'node-a', address: 'a.example:7000' }];
  const joiner = {
    role: 'joiner',
    nodeName: 'node-b',
    clusterId: 'cluster-1',
    memberId: 'member-2',
    join: { joinSecret: 'once', peers },
  } as const;
  t.match(await initialiseDataDirectory({ dir, files, ballastBytes, ...joiner }), { ok: true });
  const opened = await open(dir, 'node-b');
  if (!opened.ok) throw new Error(opened.error.message);
  t.strictSame(opened.value.identity, joiner);
  const erased = { ...joiner, join: { joinSecret: null, peers } };
  t.strictSame(await eraseJoinSecret(opened.value), erased);
  await opened.value.close();
  const again = await open(dir, 'node-b');
  if (!again.ok) throw new Error(again.error.message);
  t.strictSame(again.value.identity, erased);
  t.strictSame(await eraseJoinSecret(again.value), erased, 'and there is nothing left to erase');
  await again.value.close();
  t.notMatch(readFileSync(join(dir, 'identity.json'), 'utf8'), /once/);

  const path = join(dir, 'identity.json');
  const fields = { format: 2, nodeName: 'node-b', clusterId: 'cluster-1', memberId: 'member-2' };
  for (const wrong of [
    { ...fields },
    { ...fields, role: 'joiner' },
    { ...fields, role: 'joiner', join: { joinSecret: 1, peers } },
    { ...fields, role: 'joiner', join: { joinSecret: null, peers: [{ name: 'node-a' }] } },
    { ...fields, role: 'leader' },
  ]) {
    writeFileSync(path, encodeChecksummed(wrong));
    t.match(await open(dir, 'node-b'), failure(/is damaged: a field is missing/));
  }
});

t.test('after a recovery the identity says which log is in force', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const path = join(dir, 'identity.json');
  const identity = {
    nodeName: 'node-a',
    clusterId: 'cluster-2',
    memberId: 'member-1',
    role: 'founder',
    recoveries: 2,
  } as const;
  await writeIdentity(systemFiles, dir, identity);
  t.match(JSON.parse(readFileSync(path, 'utf8')), { format: 3 }, 'no earlier release takes the former log');
  t.match(await open(dir), failure(/has no log-2\/\. .*only a cluster of one/));
  mkdirSync(join(dir, 'log-2'));
  mkdirSync(join(dir, 'snapshots-2'));
  const opened = await open(dir);
  if (!opened.ok) throw new Error(opened.error.message);
  t.match(opened.value, {
    identity,
    logPath: join(dir, 'log-2'),
    snapshotsPath: join(dir, 'snapshots-2'),
  });
  await opened.value.close();
  const any = await openDataDirectory({
    dir,
    nodeName: null,
    files: systemFiles,
    tryLockFile: () => 0,
    pid: 1,
  });
  t.match(any, { ok: true, value: { identity } }, 'and whose it is, where nobody says');
  if (any.ok) await any.value.close();
  const { recoveries: _, ...without } = identity;
  for (const wrong of [
    { format: 2, ...identity },
    { format: 3, ...without },
    { format: 3, ...identity, recoveries: 0 },
    { format: 3, ...identity, recoveries: '1' },
  ]) {
    writeFileSync(path, encodeChecksummed(wrong));
    t.match(await open(dir), failure(/is damaged: a field is missing/));
  }
});

t.test('the ballast takes real room, gives it back, and takes it again', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  const ballast = join(dir, ballastName);
  const { size, blocks } = statSync(ballast);
  t.equal(size, ballastBytes);
  t.ok(blocks * 512 >= ballastBytes, 'on the disk too');
  const content = readFileSync(ballast);
  for (let offset = 0; offset + 16 <= size; offset += 4_096) {
    if (content.readBigUInt64BE(offset) === 0n) t.fail(`zeroes at ${offset}`);
  }
  const opened = await open(dir);
  if (!opened.ok) throw new Error(opened.error.message);
  t.ok((await remainingBytes(opened.value)) > 0);
  t.equal(await releaseBallast(opened.value), true);
  t.equal(await releaseBallast(opened.value), false, 'once');
  t.notOk(existsSync(ballast));
  await opened.value.close();
  writeFileSync(`${ballast}.tmp`, 'left by a crash');
  const again = await open(dir);
  if (again.ok) await again.value.close();
  t.match(again, { ok: true, value: { warnings: [] } });
  t.equal(statSync(ballast).size, ballastBytes);
  t.notOk(existsSync(`${ballast}.tmp`));
});

t.test('without room for the ballast a node starts all the same, and says so', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  rmSync(join(dir, ballastName));
  const full = Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
  let removed = '';
  const fullDisk: FileOperations = {
    ...files,
    open: async (path, mode) => {
      const file = await files.open(path, mode);
      if (!path.endsWith('ballast.tmp')) return file;
      return { ...file, fd: file.fd, write: () => Promise.reject(full), close: () => file.close() };
    },
    remove: (path) => {
      removed = path;
      return files.remove(path);
    },
  };
  const options = { dir, nodeName: 'node-a', tryLockFile, pid: 1, ballastBytes };
  const opened = await openDataDirectory({ ...options, files: fullDisk });
  if (!opened.ok) throw new Error(opened.error.message);
  t.match(opened.value.warnings, [/ballast could not be made: ENOSPC.*Free some space/]);
  t.match(removed, /ballast\.tmp$/, 'what there was of it is gone');
  await opened.value.close();
});

t.test('a ballast that would leave the log no room is not made: it was removed to have some', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  rmSync(join(dir, ballastName));
  const openWith = async (freeBytes: number): Promise<readonly string[]> => {
    const options = { dir, nodeName: 'node-a', tryLockFile, pid: 1, ballastBytes };
    const opened = await openDataDirectory({
      ...options,
      files: { ...files, freeBytes: async () => freeBytes },
    });
    if (!opened.ok) throw new Error(opened.error.message);
    await opened.value.close();
    return opened.value.warnings;
  };
  const enough = ballastBytes + roomBesideBallastBytes;
  t.match(await openWith(enough - 1), [
    /ballast could not be made: the ballast’s 1500000 bytes and room for the log/,
  ]);
  t.notOk(existsSync(join(dir, ballastName)));
  t.strictSame(await openWith(enough), []);
  t.ok(existsSync(join(dir, ballastName)));
});

t.test('a disk that is too small is found out before anything is made', async (t) => {
  const dir = join(t.testdir(), 'data');
  const initialiseWith = (freeBytes: number) =>
    initialiseDataDirectory({
      dir,
      files: { ...files, freeBytes: async () => freeBytes },
      ballastBytes,
      ...identity,
    });
  const enough = ballastBytes + roomBesideBallastBytes;
  t.match(
    await initialiseWith(enough - 1),
    failure(/data: the ballast’s 1500000 bytes and room for the log/),
  );
  t.match(await initialiseWith(enough), { ok: true }, 'and there is nothing in the way of the next try');
});

t.test('a fence stands, whatever happens to it', async (t) => {
  const dir = join(t.testdir(), 'data');
  await initialise(dir);
  t.strictSame(await readFence(files, dir), { ok: true, value: null });
  writeFileSync(join(dir, 'fence.json.tmp'), 'left by a crash');
  t.match(await writeFence(files, dir, 'removed'), { ok: true });
  t.strictSame(await readFence(files, dir), { ok: true, value: 'removed' });
  t.match(await writeFence(files, dir, 'other cluster'), { ok: true });
  t.strictSame(await readFence(files, dir), { ok: true, value: 'other cluster' });
  const path = join(dir, 'fence.json');
  const text = readFileSync(path, 'utf8');
  for (let offset = 0; offset < text.length; offset += 1) {
    const flipped = Buffer.from(text);
    flipped.writeUInt8(flipped.readUInt8(offset) ^ 2, offset);
    writeFileSync(path, flipped);
    const { ok, value } = (await readFence(files, dir)) as { ok: boolean; value?: unknown };
    if (!ok || typeof value !== 'string' || !/damaged/.test(value)) t.fail(`byte ${offset}`);
  }
  writeFileSync(path, '');
  t.match(await readFence(files, dir), { ok: true, value: /is damaged \(it is not JSON\)/ });
  const opened = await open(dir);
  t.match(opened, { ok: true }, 'the directory opens: to read, and to tell');
  if (opened.ok) await opened.value.close();
});

t.test('a crash while a fence is written: it stands, or was never promised', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialiseDataDirectory({ dir: '/data', files: disk, ballastBytes: 0, ...identity });
  const before = disk.operations.length;
  await writeFence(disk, '/data', 'removed');
  const model = new CrashModel(emptyDisk, disk.operations);
  const random = new SeededRandom(2);
  for (let count = before; count <= disk.operations.length; count += 1) {
    for (let draw = 0; draw < 20; draw += 1) {
      const image = model.imageAfter(count, () => random.pick(['kept', 'dropped', 'torn']), random);
      const found = await readFence(new MemoryDisk(image, random), '/data');
      const stands = found.ok && found.value === 'removed';
      const absent = found.ok && found.value === null;
      if (!stands && (!absent || count === disk.operations.length)) t.fail(`after operation ${count}`);
    }
  }
});
