import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { Entry, EntryKind, HardState } from '../../src/raft/types.js';
import { DurableLog } from '../../src/replication/durable-log.js';
import { encodeItems, type LogItem } from '../../src/replication/log-items.js';
import { encodeRecord } from '../../src/replication/log-record.js';
import type { Recovered } from '../../src/replication/log-recovery.js';
import { readSegment, segmentNumber } from '../../src/replication/segment-file.js';
import { dataDirectory, emptyDisk, initialise, openDirectory } from '../support/durable-node.js';
import { type DiskImage, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

const entry = (
  index: number,
  term: number,
  text = `${index} of ${term}`,
  kind: EntryKind = 'command',
): Entry => ({
  index,
  term,
  kind,
  data: kind === 'noop' ? Buffer.alloc(0) : Buffer.from(text),
});

const state = (term: number, commitIndex: number, votedFor: string | null = null): HardState => ({
  term,
  votedFor,
  commitIndex,
});

const records = (...texts: string[]) => texts.map((text) => Buffer.from(text));

async function newDisk(): Promise<MemoryDisk> {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  return disk;
}

async function openLog(disk: MemoryDisk, segmentBytesMax = 1_000_000) {
  const directory = await openDirectory(disk);
  if (!directory.ok) throw new Error(directory.error.message);
  const opened = await DurableLog.open(directory.value, segmentBytesMax);
  if (!opened.ok) throw new Error(opened.error);
  return opened.value;
}

async function problemOf(disk: MemoryDisk): Promise<string> {
  const directory = await openDirectory(disk);
  if (!directory.ok) throw new Error(directory.error.message);
  const opened = await DurableLog.open(directory.value);
  return opened.ok ? 'none' : opened.error;
}

/** What of it can be compared. */
const readable = ({ snapshot, entries, hardState, lastIndex }: Recovered) => ({
  snapshot: snapshot && {
    index: snapshot.index,
    term: snapshot.term,
    records: snapshot.records.map((record) => Buffer.from(record).toString()),
  },
  entries: entries.map(({ index, term, kind, data }) => [index, term, kind, Buffer.from(data).toString()]),
  hardState,
  lastIndex,
});

const reopened = async (disk: MemoryDisk) => readable((await openLog(disk)).recovered);

const logFiles = (disk: MemoryDisk): string[] =>
  [...disk.image().files.keys()].filter((path) => path.endsWith('.log')).sort();

const snapshotFiles = (disk: MemoryDisk): string[] =>
  [...disk.image().files.keys()].filter((path) => path.includes('/snapshots/')).sort();

t.test('entries of every kind, term, vote and commit come back as they were', async (t) => {
  const disk = await newDisk();
  const { log, recovered } = await openLog(disk);
  t.strictSame(readable(recovered), {
    snapshot: null,
    entries: [],
    hardState: state(0, 0),
    lastIndex: 0,
  });
  await log.append({ entries: [], hardState: state(3, 0, 'member-2') });
  const entries = [entry(1, 3, '', 'noop'), entry(2, 3, 'add', 'membership'), entry(3, 3, 'key')];
  t.match(await log.append({ entries, hardState: state(3, 2, 'member-2') }), { ok: true });
  await log.append({ entries: [], hardState: null });
  await log.close();
  t.strictSame(await reopened(disk), {
    snapshot: null,
    entries: [
      [1, 3, 'noop', ''],
      [2, 3, 'membership', 'add'],
      [3, 3, 'command', 'key'],
    ],
    hardState: state(3, 2, 'member-2'),
    lastIndex: 3,
  });
});

t.test('an entry replaces the one of its index and all after it', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk);
  await log.append({ entries: [1, 2, 3, 4, 5].map((index) => entry(index, 1)), hardState: state(1, 2) });
  t.match(await log.append({ entries: [entry(3, 2), entry(4, 2)], hardState: state(2, 2) }), { ok: true });
  t.match(await log.append({ entries: [entry(5, 2)], hardState: null }), { ok: true });
  await log.close();
  const { entries, lastIndex } = await reopened(disk);
  t.strictSame(
    entries.map(([index, term]) => [index, term]),
    [
      [1, 1],
      [2, 1],
      [3, 2],
      [4, 2],
      [5, 2],
    ],
  );
  t.equal(lastIndex, 5);
});

t.test('what Raft forbids never reaches the disk', async (t) => {
  const forbidden: readonly (readonly [string, RegExp, (log: DurableLog) => Promise<unknown>])[] = [
    [
      'a committed entry',
      /entry 2 would replace a committed one/,
      (log) => log.append({ entries: [entry(2, 2)], hardState: null }),
    ],
    ['a gap', /entry 5 would leave a gap/, (log) => log.append({ entries: [entry(5, 2)], hardState: null })],
    [
      'a gap inside',
      /entry 6 would leave a gap/,
      (log) => log.append({ entries: [entry(4, 2), entry(6, 2)], hardState: null }),
    ],
    ['an older term', /term 1 after 2/, (log) => log.append({ entries: [], hardState: state(1, 2) })],
    [
      'another vote',
      /a second vote in term 2/,
      (log) => log.append({ entries: [], hardState: state(2, 2, 'b') }),
    ],
    [
      'no vote any more',
      /a second vote in term 2/,
      (log) => log.append({ entries: [], hardState: state(2, 2) }),
    ],
    [
      'a lower commit',
      /commit index 1 goes back/,
      (log) => log.append({ entries: [], hardState: state(2, 1, 'a') }),
    ],
    [
      'a commit of nothing',
      /commit index 4 is beyond the log/,
      (log) => log.append({ entries: [], hardState: state(2, 4, 'a') }),
    ],
    [
      'an old snapshot',
      /as of 2 would take back commits/,
      (log) => log.installSnapshot({ index: 2, term: 2 }, [], null),
    ],
    [
      'a snapshot of a rumour',
      /as of 3 is not committed/,
      (log) => log.saveSnapshot({ index: 3, term: 2 }, []),
    ],
  ];
  for (const [name, error, attempt] of forbidden) {
    const disk = await newDisk();
    const { log } = await openLog(disk);
    await log.append({ entries: [1, 2, 3].map((index) => entry(index, 2)), hardState: state(2, 2, 'a') });
    const before = disk.operations.length;
    t.match(await attempt(log), { ok: false, error }, name);
    t.equal(disk.operations.length, before, name);
    t.match(await log.append({ entries: [], hardState: null }), { ok: false, error }, 'and all is over');
    await log.close();
  }
});

t.test('a received snapshot takes the place of the log', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk);
  await log.append({ entries: [1, 2, 3, 4].map((index) => entry(index, 1)), hardState: state(1, 2) });
  t.match(await log.installSnapshot({ index: 3, term: 2 }, records('x', 'y'), state(4, 3, 'member-3')), {
    ok: true,
  });
  const installed = {
    snapshot: { index: 3, term: 2, records: ['x', 'y'] },
    entries: [],
    hardState: state(4, 3, 'member-3'),
    lastIndex: 3,
  };
  t.strictSame(await reopened(disk), installed, 'entry 4 was of another history');
  t.match(await log.append({ entries: [entry(4, 4)], hardState: null }), { ok: true });
  await log.close();
  t.strictSame(await reopened(disk), { ...installed, entries: [[4, 4, 'command', '4 of 4']], lastIndex: 4 });
  const beyond = await openLog(disk);
  await beyond.log.installSnapshot({ index: 90, term: 4 }, records('z'), null);
  t.match(await beyond.log.append({ entries: [entry(91, 4), entry(92, 5)], hardState: state(5, 91) }), {
    ok: true,
  });
  await beyond.log.close();
  t.strictSame(await reopened(disk), {
    snapshot: { index: 90, term: 4, records: ['z'] },
    entries: [
      [91, 4, 'command', '91 of 4'],
      [92, 5, 'command', '92 of 5'],
    ],
    hardState: state(5, 91),
    lastIndex: 92,
  });
});

t.test('a commit index beyond the received snapshot goes with the entries after it', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk);
  await log.installSnapshot({ index: 5, term: 2 }, records('x'), state(3, 7, 'member-2'));
  t.match(await reopened(disk), { lastIndex: 5, hardState: state(3, 5, 'member-2') });
  t.match(await log.append({ entries: [6, 7, 8].map((index) => entry(index, 3)), hardState: null }), {
    ok: true,
  });
  await log.close();
  t.match(await reopened(disk), { lastIndex: 8, hardState: state(3, 7, 'member-2') });
});

t.test('of the snapshots that one who lags for ever receives, two are kept, and the log since', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk, 200);
  const files = (kind: string): number =>
    [...disk.image().files.keys()].filter((path) => path.includes(`/${kind}-`)).length;
  let segmentsMax = 0;
  for (let index = 10; index <= 100; index += 10) {
    t.match(await log.installSnapshot({ index, term: 1 }, records(`as of ${index}`), null), { ok: true });
    t.ok(files('snapshot') <= 2);
    segmentsMax = Math.max(segmentsMax, files('segment'));
    for (const next of [index + 1, index + 2, index + 3]) {
      await log.append({ entries: [entry(next, 1)], hardState: state(1, next) });
    }
    t.match(await reopened(disk), { snapshot: { index }, lastIndex: index + 3 });
  }
  t.ok(segmentsMax <= 8, `${segmentsMax} segments`);
  await log.close();
});

t.test('a snapshot of our own that a received one overtook changes nothing', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk);
  await log.append({ entries: [1, 2, 3].map((index) => entry(index, 1)), hardState: state(1, 3) });
  t.match(await log.saveSnapshot({ index: 3, term: 1 }, records('own')), { ok: true });
  await log.installSnapshot({ index: 9, term: 1 }, records('theirs'), null);
  t.match(await log.markSnapshot({ index: 3, term: 1 }), { ok: true });
  await log.append({ entries: [entry(10, 1), entry(11, 1)], hardState: state(1, 11) });
  t.match(await reopened(disk), { snapshot: { index: 9 }, lastIndex: 11 });
  await log.saveSnapshot({ index: 11, term: 1 }, records('own again'));
  await log.markSnapshot({ index: 11, term: 1 });
  await log.close();
  t.strictSame(
    snapshotFiles(disk).map((path) => Number(path.slice(-4))),
    [9, 11],
    'the one before the last is kept, and that is the received one',
  );
  t.match(await reopened(disk), { snapshot: { index: 11 }, entries: [], lastIndex: 11 });
});

t.test('a suffix replaced across segments, the first of which are compacted away', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk, 1_024);
  const long = 'x'.repeat(600);
  // Segments that begin at 1, 3, 5, …; the commit index stays at 2.
  for (let index = 1; index <= 8; index += 1) {
    await log.append({ entries: [entry(index, 1, long)], hardState: state(1, Math.min(index, 2)) });
  }
  t.ok(logFiles(disk).length >= 3);
  for (let index = 3; index <= 12; index += 1) {
    await log.append({ entries: [entry(index, 2, `${long} anew`)], hardState: state(2, index) });
  }
  for (const index of [5, 11]) {
    await log.saveSnapshot({ index, term: 2 }, records(`as of ${index}`));
    await log.markSnapshot({ index, term: 2 });
    const { snapshot, entries, lastIndex } = await reopened(disk);
    t.equal(snapshot?.index, index);
    t.equal(lastIndex, 12);
    t.strictSame(
      entries.map(([place, term]) => [place, term]),
      Array.from({ length: 12 - index }, (_, place) => [index + 1 + place, 2]),
    );
  }
  await log.close();
  t.notMatch(logFiles(disk)[0], /segment-0000000001/, 'there was something to compact');
});

t.test('each segment tells the hard state before anything else', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk, 1_024);
  await log.append({ entries: [], hardState: state(7, 0, 'member-3') });
  for (let index = 1; index <= 9; index += 1) {
    await log.append({ entries: [entry(index, 7, 'x'.repeat(600))], hardState: null });
  }
  await log.close();
  const files = logFiles(disk);
  t.ok(files.length >= 4);
  for (const path of files.slice(1, -1)) {
    const segment = segmentNumber(path.slice(path.lastIndexOf('/') + 1)) ?? 0;
    const bytes = disk.image().files.get(path) ?? Buffer.alloc(0);
    const read = readSegment(path, bytes, { clusterId: 'cluster-1', segment, sequence: null }, false);
    t.match(read, {
      ok: true,
      value: { items: [{ kind: 'hardState', hardState: state(7, 0, 'member-3') }] },
    });
  }
});

t.test('more than a record takes: the first entries, with term and vote, before the commit', async (t) => {
  const disk = await newDisk();
  const { log } = await openLog(disk, 100_000_000);
  await log.append({ entries: [entry(1, 1)], hardState: state(1, 1) });
  const from = disk.operations.length;
  const many = Array.from({ length: 40 }, (_, place) => entry(2 + place, 2, 'x'.repeat(60 * 1024)));
  t.match(await log.append({ entries: many, hardState: state(2, 41, 'member-1') }), { ok: true });
  t.ok(disk.operations.slice(from).filter(({ kind }) => kind === 'write').length > 1, 'several records');
  const last = disk.operations.findLast(({ kind }) => kind === 'write');
  await log.close();
  t.match(await reopened(disk), { lastIndex: 41, hardState: state(2, 41, 'member-1') });
  if (last?.kind !== 'write') throw new Error('nothing was written');
  const [path] = logFiles(disk);
  const content = disk.image().files.get(path ?? '') ?? Buffer.alloc(0);
  const cut: DiskImage = {
    ...disk.image(),
    files: new Map([...disk.image().files, [path ?? '', content.subarray(0, last.position)]]),
  };
  const { entries, hardState, lastIndex } = await reopened(new MemoryDisk(cut, new SeededRandom(1)));
  t.ok(lastIndex > 1 && lastIndex < 41);
  // Each part says no more is committed than it and those before it bring.
  t.strictSame(hardState, state(2, lastIndex, 'member-1'));
  t.equal(entries.length, lastIndex);
});

/** A log whose first record after the header holds `items`. */
async function forged(
  items: readonly LogItem[],
  snapshots: Record<string, Buffer> = {},
): Promise<MemoryDisk> {
  const disk = await newDisk();
  const path = logFiles(disk)[0] ?? '';
  const header = disk.image().files.get(path) ?? Buffer.alloc(0);
  const read = readSegment(path, header, { clusterId: 'cluster-1', segment: 1, sequence: null }, true);
  if (!read.ok) throw new Error(read.error);
  const { bytes } = encodeRecord(encodeItems(items), read.value.position);
  const files = new Map([...disk.image().files, [path, Buffer.concat([header, bytes])] as const]);
  for (const [name, content] of Object.entries(snapshots))
    files.set(`${dataDirectory}/snapshots/${name}`, content);
  return new MemoryDisk({ ...disk.image(), files }, new SeededRandom(1));
}

/** The file of a snapshot as of 3 in term 2. */
async function snapshotBytes(): Promise<Buffer> {
  const disk = await newDisk();
  const { log } = await openLog(disk);
  await log.installSnapshot({ index: 3, term: 2 }, records('x'), null);
  await log.close();
  return disk.image().files.get(snapshotFiles(disk)[0] ?? '') ?? Buffer.alloc(0);
}

t.test('a snapshot counts for what the log says it is', async (t) => {
  const content = await snapshotBytes();
  const own = 'snapshot-0000000000000003';
  const received = 'received-0000000000000003';
  const installed: LogItem[] = [
    { kind: 'installedSnapshot', index: 3, term: 2 },
    { kind: 'hardState', hardState: state(2, 3) },
  ];
  const four: LogItem[] = [1, 2, 3, 4].map((index) => ({ kind: 'entry', entry: entry(index, 1) }));
  const committed = (commitIndex: number): LogItem => ({
    kind: 'hardState',
    hardState: state(2, commitIndex),
  });

  t.equal(await problemOf(await forged(installed, { [own]: content })), 'none');
  const settled = await forged(installed, { [received]: content });
  t.equal(await problemOf(settled), 'none');
  t.match(snapshotFiles(settled), [/snapshots\/snapshot-0000000000000003$/], 'it has its name for good');

  const unsettled = await forged([], { [received]: content });
  t.match(await reopened(unsettled), { snapshot: null, lastIndex: 0 }, 'it never took the place of the log');
  t.strictSame(snapshotFiles(unsettled), [], 'and is gone');

  const missing = /the log starts at index 4 and no snapshot as of 3 or later is good/;
  t.match(await problemOf(await forged(installed)), missing);
  t.match(await problemOf(await forged(installed, { [own]: content.subarray(0, 600) })), missing);
  t.match(
    await problemOf(
      await forged([{ kind: 'installedSnapshot', index: 3, term: 1 }, committed(3)], { [own]: content }),
    ),
    /the snapshot as of index 3 is of term 2, the log has term 1 there/,
  );
  const cutShort = /the log ends at index \d, before the snapshot as of 3/;
  t.match(await problemOf(await forged([], { [own]: content })), cutShort);
  t.match(
    await problemOf(await forged([...four, committed(2)], { [own]: content })),
    cutShort,
    'not committed',
  );
  t.match(
    await problemOf(await forged([...four, committed(4)], { [own]: content })),
    /the snapshot as of index 3 is of term 2, the log has term 1 there/,
  );
  t.match(
    await problemOf(await forged([...four, committed(4), ...installed], { [own]: content })),
    /a snapshot as of 3 replaces the log, which is committed up to 4/,
  );
});

t.test('the directory of a log of one opens as it was written', async (t) => {
  const source = fileURLToPath(new URL('../../../test/replication/log-of-one/', import.meta.url));
  const image = { directories: new Set(['/', dataDirectory]), files: new Map<string, Buffer>() };
  for (const found of readdirSync(source, { recursive: true, withFileTypes: true })) {
    const path = join(found.parentPath, found.name);
    const target = join(dataDirectory, path.slice(source.length));
    if (found.isDirectory()) image.directories.add(target);
    else image.files.set(target, readFileSync(path));
  }
  const disk = new MemoryDisk(image, new SeededRandom(1));
  const directory = await openDirectory(disk);
  if (!directory.ok) throw new Error(directory.error.message);
  t.strictSame(directory.value.identity, {
    role: 'founder',
    nodeName: 'node-a',
    clusterId: 'cluster-1',
    memberId: 'member-1',
  });
  const opened = await DurableLog.open(directory.value);
  if (!opened.ok) throw new Error(opened.error);
  t.strictSame(readable(opened.value.recovered), {
    snapshot: {
      index: 18,
      term: 1,
      records: Array.from({ length: 18 }, (_, place) => `command ${place + 1}`),
    },
    entries: [
      [19, 1, 'command', 'command 19'],
      [20, 1, 'command', 'command 20'],
    ],
    hardState: { term: 1, votedFor: 'member-1', commitIndex: 20 },
    lastIndex: 20,
  });
  const { log } = opened.value;
  t.match(await log.append({ entries: [entry(21, 2, '', 'noop')], hardState: state(2, 21, 'member-1') }), {
    ok: true,
  });
  await log.close();
});
