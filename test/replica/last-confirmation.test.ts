import t from 'tap';
import { LastConfirmation } from '../../src/replica/last-confirmation.js';
import { MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

const emptyDirectory = () =>
  new MemoryDisk({ directories: new Set(['/data']), files: new Map() }, new SeededRandom(1));

t.test('what was confirmed is found by the next start', async (t) => {
  const disk = emptyDirectory();
  const first = await LastConfirmation.open(disk, '/data');
  t.equal(first.foundAtMs, null);
  first.confirmed(1_000.7);
  await first.close();
  t.equal((await LastConfirmation.open(disk, '/data')).foundAtMs, 1_000);
});

t.test('it is written now and then, not at every confirmation', async (t) => {
  const disk = emptyDirectory();
  const confirmation = await LastConfirmation.open(disk, '/data');
  const writes = () => disk.operations.filter(({ kind }) => kind === 'write').length;
  for (const atMs of [0, 500, 29_999, 30_000, 30_500]) {
    confirmation.confirmed(atMs);
    await confirmation.close();
  }
  t.equal(writes(), 2);
  t.equal((await LastConfirmation.open(disk, '/data')).foundAtMs, 30_000);
});

t.test('a record that a crash left unfinished, or that is damaged, is none', async (t) => {
  const files = new Map([['/data/confirmed', Buffer.from('12x\n')]]);
  const damaged = new MemoryDisk({ directories: new Set(['/data']), files }, new SeededRandom(1));
  const confirmation = await LastConfirmation.open(damaged, '/data');
  t.equal(confirmation.foundAtMs, null);
  confirmation.confirmed(5);
  await confirmation.close();
  t.equal((await LastConfirmation.open(damaged, '/data')).foundAtMs, 5);
});

t.test('a disk that takes nothing costs the record only', async (t) => {
  const disk = new MemoryDisk(emptyDirectory().image(), new SeededRandom(1), {
    operation: 1,
    code: 'ENOSPC',
  });
  const confirmation = await LastConfirmation.open(disk, '/data');
  confirmation.confirmed(5);
  await confirmation.close();
  t.equal((await LastConfirmation.open(disk, '/data')).foundAtMs, null);
});
