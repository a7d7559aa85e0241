import t from 'tap';
import { lookTimeoutMs, roomLookMs, roomToWrite, trialIntervalMs } from '../../src/replica/room-to-write.js';
import { roomBesideBallastBytes } from '../../src/replication/ballast.js';
import type { FileOperations } from '../../src/replication/file-operations.js';
import { snapshotName } from '../../src/replication/snapshot-file.js';
import { MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { VirtualTime } from '../support/virtual-time.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const place = { path: '/data', logPath: '/data/log', snapshotsPath: '/data/snapshots' };

interface Disk {
  /** Its answers, one after the other, the last one for ever. */
  readonly free: readonly (() => Promise<number>)[];
  /** How each try to write ends that it lets begin; `null`: well. */
  readonly refusals?: readonly (string | null)[];
  /** In the snapshots' folder: bytes by name. */
  readonly snapshots?: Readonly<Record<string, number>>;
}

/** A disk that does so, and who waits for room on it. */
async function begin({ free, refusals = [], snapshots = {} }: Disk) {
  const time = new VirtualTime();
  const seen = { asked: 0, tried: 0, told: 0, over: false };
  const files = new Map(
    Object.entries(snapshots).map(([name, bytes]) => [`${place.snapshotsPath}/${name}`, Buffer.alloc(bytes)]),
  );
  const directories = new Set(Object.values(place));
  const memory = new MemoryDisk({ directories, files }, new SeededRandom(1));
  const disk: Pick<FileOperations, 'freeBytes' | 'open'> = {
    freeBytes: () => {
      const answer = free[Math.min(seen.asked, free.length - 1)];
      seen.asked += 1;
      return answer?.() ?? Promise.reject(new Error('no answer'));
    },
    open: async (path, mode) => {
      const file = await memory.open(path, mode);
      const code = refusals[seen.tried] ?? null;
      seen.tried += 1;
      const refuse = () => Promise.reject(Object.assign(new Error(`${code}`), { code }));
      return code === null ? file : { ...file, fd: 0, write: refuse };
    },
  };
  const operations: FileOperations = {
    ...disk,
    stat: (path) => memory.stat(path),
    list: (path) => memory.list(path),
    makeDirectory: (path) => memory.makeDirectory(path),
    rename: (from, to) => memory.rename(from, to),
    remove: (path) => memory.remove(path),
    syncDirectory: (path) => memory.syncDirectory(path),
  };
  const told = (): void => {
    seen.told += 1;
  };
  void roomToWrite({ ...place, files: operations }, time, told).then(() => {
    seen.over = true;
  });
  await turn();
  const pass = async (ms: number): Promise<void> => {
    time.advance(ms);
    await turn();
  };
  /** Bytes in all. */
  const written = (): number =>
    memory.operations.reduce((sum, each) => sum + (each.kind === 'write' ? each.bytes.byteLength : 0), 0);
  return { seen, pass, written, logFiles: () => memory.list(place.logPath) };
}

const has =
  (bytes: number): (() => Promise<number>) =>
  async () =>
    bytes;

const needed = roomBesideBallastBytes;

t.test('with room, or with a disk that does not say, nobody waits', async (t) => {
  const roomy = await begin({ free: [has(needed)] });
  t.match(roomy.seen, { asked: 1, tried: 1, told: 0, over: true });
  t.equal(roomy.written(), needed, 'all of it is tried');
  t.strictSame(await roomy.logFiles(), [], 'and given back');
  const silent = await begin({ free: [() => Promise.reject(new Error('EIO'))] });
  t.match(silent.seen, { asked: 1, tried: 0, told: 0, over: true });
});

t.test('a disk that hangs is not waited for', async (t) => {
  const { seen, pass } = await begin({ free: [() => new Promise(() => {})] });
  await pass(lookTimeoutMs - 1);
  t.match(seen, { told: 0, over: false });
  await pass(1);
  t.match(seen, { told: 0, over: true });
});

t.test('on a full disk it waits until there is room, and says so once', async (t) => {
  const { seen, pass } = await begin({ free: [has(0), has(needed - 1), has(needed)] });
  t.match(seen, { asked: 1, tried: 0, told: 1, over: false });
  await pass(roomLookMs - 1);
  t.match(seen, { asked: 1, told: 1, over: false });
  await pass(1);
  t.match(seen, { asked: 2, tried: 0, told: 1, over: false });
  await pass(roomLookMs);
  t.match(seen, { asked: 3, tried: 1, told: 1, over: true });
});

for (const code of ['EDQUOT', 'ENOSPC']) {
  t.test(`room that the disk has and refuses (${code}) is tried now and then`, async (t) => {
    const { seen, pass, logFiles } = await begin({ free: [has(2 ** 40)], refusals: [code, code] });
    t.match(seen, { tried: 1, told: 1, over: false });
    t.strictSame(await logFiles(), []);
    await pass(trialIntervalMs - 1);
    t.match(seen, { tried: 1, over: false });
    await pass(1);
    t.match(seen, { tried: 2, told: 1, over: false });
    await pass(trialIntervalMs);
    t.match(seen, { tried: 3, told: 1, over: true });
  });
}

t.test('a disk that fails a try for another reason is not waited for', async (t) => {
  const { seen } = await begin({ free: [has(2 ** 40)], refusals: ['EIO'] });
  t.match(seen, { tried: 1, told: 0, over: true });
});

t.test('where a snapshot was under way there must be room for all of it', async (t) => {
  const whole = 40_000;
  const begun = 10_000;
  const snapshots = { [snapshotName(7)]: whole, [snapshotName(3)]: 30_000 };
  const quiet = await begin({ free: [has(needed)], snapshots });
  t.match(quiet.seen, { told: 0, over: true }, 'none was');
  const tooLittle = needed + whole - begun - 1;
  const { seen, pass } = await begin({
    free: [has(tooLittle), has(tooLittle + 1)],
    snapshots: { ...snapshots, [`${snapshotName(9)}.tmp`]: begun },
  });
  t.match(seen, { told: 1, over: false });
  await pass(roomLookMs);
  t.match(seen, { told: 1, over: true }, 'the unfinished one will be removed');
});
