import t from 'tap';
import type { Entry } from '../../src/raft/types.js';
import { emptyImage, logCodec, SimDisk } from './disk.js';
import { Random } from './random.js';

const entry = (index: number, term: number, bytes = 10): Entry => ({
  index,
  term,
  kind: 'command',
  data: Buffer.alloc(bytes, index),
});

const newDisk = (seed: number): SimDisk => new SimDisk(emptyImage, 4, new Random(seed), logCodec);

function write(disk: SimDisk, entries: readonly Entry[], term: number, commitIndex: number): void {
  disk.beginAppend(entries, { term, votedFor: null, commitIndex });
  disk.sync();
}

t.test('what was synced is found again, over segments and snapshots', async (t) => {
  const disk = newDisk(1);
  for (let index = 1; index <= 30; index += 1) {
    write(disk, [entry(index, 1)], 1, index);
    if (index % 10 === 0) {
      disk.beginMarker({ at: { index, term: 1 }, records: [Buffer.from(`as of ${index}`)] });
      disk.sync();
    }
  }
  write(disk, [entry(31, 2), entry(32, 2)], 2, 30);
  write(disk, [entry(32, 3)], 3, 30);
  t.ok(disk.image().segments.length < 8, 'old segments are gone');
  const recovered = disk.recover();
  if (!recovered.ok) throw new Error(recovered.error);
  t.same(recovered.value.snapshot, { index: 30, term: 1 });
  t.same(
    recovered.value.entries.map(({ index, term }) => [index, term]),
    [
      [31, 2],
      [32, 3],
    ],
  );
  t.same(recovered.value.hardState, { term: 3, votedFor: null, commitIndex: 30 });
  t.same(recovered.value.snapshotRecords?.map(String), ['as of 30']);
});

t.test('a write that a crash interrupted is there as a whole or not at all', async (t) => {
  const fates = new Map<string, number>();
  for (let seed = 1; seed <= 200; seed += 1) {
    const disk = newDisk(seed);
    write(disk, [entry(1, 1)], 1, 0);
    disk.beginAppend([entry(2, 2, 1_500), entry(3, 2, 10)], { term: 2, votedFor: 'a', commitIndex: 1 });
    const fate = disk.crash();
    const recovered = disk.recover();
    if (fate === null || !recovered.ok) {
      t.fail(recovered.ok ? 'nothing was under way' : recovered.error);
      continue;
    }
    fates.set(fate, (fates.get(fate) ?? 0) + 1);
    const { entries, hardState } = recovered.value;
    const whole = entries.length === 3 && hardState.term === 2 && hardState.votedFor === 'a';
    const none = entries.length === 1 && hardState.term === 1;
    if (fate === 'kept' ? !whole : !none) t.fail(`${fate}: ${JSON.stringify(recovered.value)}`);
    write(disk, [entry(entries.length + 1, 3)], 3, 1);
    const again = disk.recover();
    if (!again.ok || again.value.entries.length !== entries.length + 1) t.fail('it can be written on');
  }
  t.equal(fates.size, 3, JSON.stringify([...fates]));
});

t.test('an installed snapshot takes the place of the log, or not at all', async (t) => {
  const disk = newDisk(3);
  write(disk, [entry(1, 1), entry(2, 1)], 1, 1);
  disk.beginInstall({ at: { index: 9, term: 4 }, records: [Buffer.from('nine')] }, null);
  disk.sync();
  write(disk, [entry(10, 4)], 4, 9);
  const recovered = disk.recover();
  if (!recovered.ok) throw new Error(recovered.error);
  t.same(recovered.value.snapshot, { index: 9, term: 4 });
  t.equal(recovered.value.entries.length, 1);
});

t.test('a disk that is set back has what it had then', async (t) => {
  const disk = newDisk(4);
  write(disk, [entry(1, 1)], 1, 1);
  const image = disk.image();
  write(disk, [entry(2, 2)], 2, 2);
  disk.replace(image);
  const recovered = disk.recover();
  if (!recovered.ok) throw new Error(recovered.error);
  t.equal(recovered.value.entries.length, 1);
  t.equal(recovered.value.hardState.term, 1);
});
