import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import { encodeRecord, scanRecords } from '../../src/replication/log-record.js';
import { type ReadSegment, readSegment, segmentNumber } from '../../src/replication/segment-file.js';
import { readSnapshot, snapshotIndex } from '../../src/replication/snapshot-file.js';
import { randomCommand } from '../support/commands.js';
import { dataDirectory, emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { type DiskImage, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

/**
 * Damage to a log and to a snapshot of real commands: every byte, every length, every sector. What the torn-write rule
 * can't tell is named in the tests: a last record whose sector is all zero, and a log whose end is missing, look like
 * a write that a crash interrupted.
 */
const sectorBytes = 512;
const clusterId = 'cluster-1';

async function buildLog(sizes: { segmentBytesMax: number; snapshotEntries: number }, commands: number) {
  const random = new SeededRandom(42);
  const disk = new MemoryDisk(emptyDisk, random);
  await initialise(disk);
  const machine = new KeyStateMachine();
  const opened = await openNode(disk, machine, sizes);
  if (!opened.ok) throw new Error(opened.error.message);
  for (let count = 0; count < commands; ) {
    const batch = Array.from({ length: 1 + random.integer(3) }, () => encodeCommand(randomCommand(random)));
    await Promise.all(batch.map((command) => opened.value.propose(command)));
    count += batch.length;
  }
  await opened.value.close();
  return { image: disk.image(), hash: machine.stateHash() };
}

/** Path and content of the files of `image` that `place` gives a number, in its order. */
function filesOf(image: DiskImage, directory: string, place: (name: string) => number | null) {
  const found: { readonly path: string; readonly number: number; readonly content: Buffer }[] = [];
  for (const [path, content] of image.files) {
    const parent = join(dataDirectory, directory);
    const number = path.startsWith(`${parent}/`) ? place(path.slice(parent.length + 1)) : null;
    if (number !== null) found.push({ path, number, content });
  }
  return found.sort((left, right) => left.number - right.number);
}

const withFile = (image: DiskImage, path: string, content: Buffer): DiskImage => ({
  directories: image.directories,
  files: new Map([...image.files, [path, content]]),
});

function flipped(content: Buffer, offset: number, mask: number): Buffer {
  const copy = Buffer.from(content);
  copy.writeUInt8(copy.readUInt8(offset) ^ mask, offset);
  return copy;
}

const read = (bytes: Buffer, last: boolean, number = 1) =>
  readSegment('segment', bytes, { clusterId, segment: number, sequence: null }, last);

function readWhole(bytes: Buffer, number: number): ReadSegment {
  const whole = read(bytes, true, number);
  if (!whole.ok) throw new Error(whole.error);
  return whole.value;
}

/** Where the records of a segment start, and where the last ends. */
function boundaries(bytes: Buffer): number[] {
  return [...scanRecords(bytes, null).records.map(({ offset }) => offset), bytes.byteLength];
}

/** Many small segments: each is read by itself, so every byte can have its turn. */
const log = await buildLog({ segmentBytesMax: 2_048, snapshotEntries: 1_000_000 }, 180);
const logSegments = filesOf(log.image, 'log', segmentNumber);
const single = await buildLog({ segmentBytesMax: 1_000_000, snapshotEntries: 1_000_000 }, 60);
const [segment] = filesOf(single.image, 'log', segmentNumber);
if (segment === undefined) throw new Error('no segment');
const { content } = segment;

t.test('the log is of the size that was meant', async (t) => {
  const bytes = logSegments.reduce((sum, { content }) => sum + content.byteLength, 0);
  t.ok(bytes >= 64 * 1024, `${bytes} bytes in ${logSegments.length} segments`);
  for (const { content, number } of logSegments) t.equal(readWhole(content, number).torn, null);
});

t.test('a flipped byte anywhere in a segment is damage, never a torn write', async (t) => {
  const random = new SeededRandom(1);
  const accepted: string[] = [];
  for (const { content, number } of logSegments) {
    for (let offset = 0; offset < content.byteLength; offset += 1) {
      const byte = content.readUInt8(offset);
      // Any other value, and zero: a sector must not become one that was never written.
      for (const mask of [1 + random.integer(255), byte]) {
        if (mask !== 0 && read(flipped(content, offset, mask), true, number).ok) {
          accepted.push(`${number}: ${offset}`);
        }
      }
    }
  }
  t.strictSame(accepted, []);
});

t.test('a segment cut at any length: the records before the cut, and never a part of one', async (t) => {
  const wrong: string[] = [];
  for (const { content, number } of logSegments) {
    const whole = readWhole(content, number);
    const starts = boundaries(content).slice(1);
    for (let length = 0; length < content.byteLength; length += 1) {
      const cut = content.subarray(0, length);
      // At a boundary nothing shows that more was there: only the next segment, a snapshot or another member can.
      const atBoundary = starts.includes(length);
      if (read(cut, false, number).ok !== atBoundary)
        wrong.push(`${number}: ${length} in the middle of the log`);
      const good = starts.filter((start) => start <= length).at(-1) ?? null;
      const result = read(cut, true, number);
      if (!result.ok || good === null) {
        if (result.ok || good !== null) wrong.push(`${number}: ${length} of a header`);
        continue;
      }
      const { goodBytes, torn, items } = result.value;
      if ((torn === null) !== atBoundary) wrong.push(`${number}: ${length} torn or not`);
      if (goodBytes !== good) wrong.push(`${number}: ${length} good up to ${goodBytes}`);
      if (!isDeepStrictEqual(items.at(-1), whole.items[items.length - 1]))
        wrong.push(`${number}: ${length} items`);
    }
  }
  t.strictSame(wrong.slice(0, 5), []);
});

t.test(
  'a sector of zeroes is damage unless it is in the last record, where it is a torn write',
  async (t) => {
    const lastStart = boundaries(content).at(-2) ?? 0;
    const wrong: number[] = [];
    for (let offset = 0; offset < content.byteLength; offset += sectorBytes) {
      const zeroed = Buffer.from(content).fill(0, offset, offset + sectorBytes);
      const result = read(zeroed, true);
      const torn = result.ok && result.value.torn !== null && result.value.goodBytes === lastStart;
      if (offset < lastStart ? result.ok : !torn) wrong.push(offset);
      if (read(zeroed, false).ok) wrong.push(offset);
    }
    t.strictSame(wrong, []);
  },
);

t.test('records that are good but not in their place are damage', async (t) => {
  const starts = boundaries(content);
  const record = (place: number): Buffer => content.subarray(starts[place], starts[place + 1]);
  const before = content.subarray(0, starts[5]);
  const after = (place: number): Buffer => content.subarray(starts[place]);
  t.notOk(read(Buffer.concat([before, after(6)]), true).ok, 'one left out');
  t.notOk(read(Buffer.concat([before, record(5), after(5)]), true).ok, 'one twice');
  t.notOk(read(Buffer.concat([before, record(6), record(5), after(7)]), true).ok, 'two exchanged');
  t.notOk(read(Buffer.concat([content, record(5)]), true).ok, 'an old one at the end');
  const forged = encodeRecord(Buffer.from([9]), { sequence: 6, crc: 0 });
  t.notOk(read(Buffer.concat([before, forged.bytes]), true).ok, 'one of another chain');
});

t.test(
  'what is not ours at the end is damage; zeroes within the length of a record are a torn write',
  async (t) => {
    const random = new SeededRandom(3);
    t.notOk(read(Buffer.concat([content, random.bytes(700)]), true).ok);
    t.match(read(Buffer.concat([content, Buffer.alloc(1_500)]), true), {
      ok: true,
      value: { torn: { kind: 'torn' } },
    });
    t.notOk(
      read(Buffer.concat([content, Buffer.alloc(4 * 1024 * 1024)]), true).ok,
      'more zeroes than a record has',
    );
    t.notOk(
      read(Buffer.concat([content, Buffer.alloc(512), content.subarray(512)]), true).ok,
      'a record after them',
    );
  },
);

t.test('a damaged node stops, names file and offset, and changes nothing', async (t) => {
  for (let offset = 100; offset < content.byteLength; offset += 1_499) {
    const disk = new MemoryDisk(
      withFile(single.image, segment.path, flipped(content, offset, 0x10)),
      new SeededRandom(1),
    );
    const before = disk.image().files.get(segment.path);
    const opened = await openNode(disk, new KeyStateMachine());
    if (opened.ok) {
      t.fail(`offset ${offset} was accepted`);
      continue;
    }
    const { message } = opened.error;
    t.match(message, segment.path);
    t.match(
      message,
      /is damaged at byte \d+: .*Nothing was changed.*remove this node.*only a cluster of one is restored from a backup/,
    );
    const named = Number(/at byte (\d+)/.exec(message)?.[1]);
    t.ok(named <= offset && offset - named < 8_192, `byte ${named} for ${offset}`);
    t.ok(before !== undefined && disk.image().files.get(segment.path)?.equals(before));
  }
});

const compacted = await buildLog({ segmentBytesMax: 8_192, snapshotEntries: 60 }, 400);
const snapshots = filesOf(compacted.image, 'snapshots', snapshotIndex);
const segments = filesOf(compacted.image, 'log', segmentNumber);

t.test('a flipped byte or any cut of a snapshot is damage', async (t) => {
  const newest = snapshots.at(-1);
  if (newest === undefined) throw new Error('no snapshot');
  const expected = { clusterId, index: newest.number };
  t.ok(readSnapshot('snapshot', newest.content, expected).ok);
  const random = new SeededRandom(2);
  const accepted: string[] = [];
  for (let offset = 0; offset < newest.content.byteLength; offset += 1) {
    const mask = 1 + random.integer(255);
    if (readSnapshot('s', flipped(newest.content, offset, mask), expected).ok)
      accepted.push(`flip at ${offset}`);
    if (readSnapshot('s', newest.content.subarray(0, offset), expected).ok) accepted.push(`cut at ${offset}`);
  }
  for (let offset = 0; offset < newest.content.byteLength; offset += sectorBytes) {
    const zeroed = Buffer.from(newest.content).fill(0, offset, offset + sectorBytes);
    if (readSnapshot('s', zeroed, expected).ok) accepted.push(`zeroes at ${offset}`);
  }
  t.strictSame(accepted, []);
  t.notOk(
    readSnapshot('s', newest.content, { clusterId, index: newest.number + 1 }).ok,
    'under another name',
  );
  t.match(readSnapshot('s', newest.content, { clusterId: 'cluster-2', index: newest.number }), {
    ok: false,
    error: /belongs to cluster cluster-1/,
  });
});

async function reopen(image: DiskImage) {
  const warnings: string[] = [];
  const machine = new KeyStateMachine();
  const opened = await openNode(new MemoryDisk(image, new SeededRandom(1)), machine, {
    onWarning: (message) => warnings.push(message),
  });
  if (!opened.ok) return { problem: opened.error.message, warnings, hash: null };
  await opened.value.close();
  return { problem: null, warnings, hash: machine.stateHash() };
}

t.test(
  'with its newest snapshot damaged a node uses the one before and the log since, and says so',
  async (t) => {
    t.equal(snapshots.length, 2, 'two are kept');
    const [older, newest] = snapshots;
    if (older === undefined || newest === undefined) throw new Error('too few snapshots');
    const intact = await reopen(compacted.image);
    t.strictSame(intact, { problem: null, warnings: [], hash: compacted.hash });
    const damaged = withFile(compacted.image, newest.path, flipped(newest.content, 700, 1));
    const reopened = await reopen(damaged);
    t.equal(reopened.hash, compacted.hash);
    t.equal(reopened.warnings.length, 1);
    t.match(reopened.warnings[0], /snapshot-\d+ is damaged at byte/);
    const missing = { ...compacted.image, files: new Map(compacted.image.files) };
    missing.files.delete(newest.path);
    const without = await reopen(missing);
    t.equal(without.hash, compacted.hash);
    t.match(without.warnings, [/is missing; the log since \d+ was used instead/]);
    const both = withFile(damaged, older.path, flipped(older.content, 700, 1));
    t.match((await reopen(both)).problem, /no snapshot as of \d+ or later is good.*snapshot-\d+ is damaged/);
  },
);

t.test('segments that are missing, exchanged or of another cluster are seen', async (t) => {
  t.ok(segments.length >= 3, `${segments.length} segments`);
  for (const [place, missing] of segments.entries()) {
    const image = { ...compacted.image, files: new Map(compacted.image.files) };
    image.files.delete(missing.path);
    const { problem, hash } = await reopen(image);
    // Without its last segment a log ends sooner, at the end of a record: only the snapshot can tell.
    if (place === segments.length - 1 && problem === null) t.ok(hash);
    // Without its first it is a log that was compacted further, which the snapshot makes good.
    else if (place === 0 && problem === null) t.equal(hash, compacted.hash);
    else t.match(problem, /is damaged/, missing.path);
  }
  const [first, second] = segments;
  if (first === undefined || second === undefined) throw new Error('too few segments');
  const exchanged = withFile(
    withFile(compacted.image, first.path, second.content),
    second.path,
    first.content,
  );
  t.match((await reopen(exchanged)).problem, /is damaged/);
  const none = { ...compacted.image, files: new Map(compacted.image.files) };
  for (const { path } of segments) none.files.delete(path);
  t.match((await reopen(none)).problem, /holds no segment/);
});

t.test('a log that ends before its snapshot has lost its end', async (t) => {
  const last = segments.at(-1);
  const newest = snapshots.at(-1);
  if (last === undefined || newest === undefined) throw new Error('no segment');
  const expected = { clusterId, segment: last.number, sequence: null };
  const image = { ...compacted.image, files: new Map(compacted.image.files) };
  for (const { path, number, content: bytes } of segments) {
    const parsed = readSegment(path, bytes, { ...expected, segment: number }, true);
    if (parsed.ok && parsed.value.firstIndex > newest.number) image.files.delete(path);
  }
  const kept = filesOf(image, 'log', segmentNumber).at(-1);
  if (kept === undefined) throw new Error('no segment');
  const cut = kept.content.subarray(0, boundaries(kept.content)[1]);
  t.match(
    (await reopen(withFile(image, kept.path, cut))).problem,
    /ends at index \d+, before the snapshot as of/,
  );
});

t.test('every byte of the identity counts', async (t) => {
  const path = join(dataDirectory, 'identity.json');
  const identity = single.image.files.get(path) ?? Buffer.alloc(0);
  for (let offset = 0; offset < identity.byteLength; offset += 1) {
    const { problem } = await reopen(withFile(single.image, path, flipped(identity, offset, 2)));
    if (problem === null) t.fail(`byte ${offset} of the identity was changed unseen`);
  }
  t.match((await reopen(withFile(single.image, path, Buffer.alloc(0)))).problem, /is damaged/);
});

t.test('an entry that no version of ours wrote halts the node at its index', async (t) => {
  const random = new SeededRandom(9);
  const disk = new MemoryDisk(emptyDisk, random);
  await initialise(disk);
  const opened = await openNode(disk, new ListMachine());
  if (!opened.ok) throw new Error(opened.error.message);
  await opened.value.propose(encodeCommand(randomCommand(random)));
  const strange = await opened.value.propose(Buffer.from('\x02{"type":"key.destroy"}', 'latin1'));
  if (!strange.ok) throw new Error(strange.error.kind);
  const { index } = strange.value;
  await opened.value.close();
  const halted: string[] = [];
  const machine = new KeyStateMachine();
  const again = await openNode(disk, machine, { onHalted: (reason) => halted.push(reason) });
  if (!again.ok) throw new Error(again.error.message);
  const reason = new RegExp(
    `^entry ${index} of the log can't be applied, so this node stops there: .*can't be decoded`,
  );
  t.match(halted, [reason]);
  t.equal(halted.length, 1);
  t.equal(again.value.appliedIndex, index - 1, 'what came before stands');
  t.match(await again.value.propose(encodeCommand(randomCommand(random))), {
    ok: false,
    error: { kind: 'closed', reason },
  });
  t.match(await again.value.readIndex(), { ok: false, error: { kind: 'closed', reason } });
  await again.value.close();
});

t.test('an entry that cannot be applied when it is proposed: nobody hears that it was', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(9));
  await initialise(disk);
  const halted: string[] = [];
  const opened = await openNode(disk, new KeyStateMachine(), { onHalted: (reason) => halted.push(reason) });
  if (!opened.ok) throw new Error(opened.error.message);
  const before = opened.value.appliedIndex;
  const answers = await Promise.all([
    opened.value.propose(Buffer.from('nonsense')),
    opened.value.propose(encodeCommand(randomCommand(new SeededRandom(1)))),
  ]);
  t.match(answers, [
    { ok: false, error: { kind: 'closed', reason: /entry \d+ of the log/ } },
    { ok: false, error: { kind: 'closed' } },
  ]);
  t.match(halted, [/^entry \d+ of the log can't be applied/]);
  t.equal(opened.value.appliedIndex, before);
  await opened.value.close();
});
