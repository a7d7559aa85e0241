import { emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { type CrashFate, type DiskImage, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

/**
 * A run is recorded; then, for every prefix of what was done to the disk, the disk is put together as a crash at that
 * moment may leave it, and opened again.
 */
export const sizes = { segmentBytesMax: 4_096, snapshotEntries: 12 };

interface Run {
  readonly disk: MemoryDisk;
  readonly proposed: readonly string[];
  /** For each number of acknowledged proposals, how many operations had been done. */
  readonly acknowledgedAt: readonly number[];
  /** What was there when the log was opened, and how many operations had been done then. */
  readonly opened: { readonly entries: number; readonly at: number };
}

/** Proposes `count` commands, some at once, some long enough for several sectors. */
export async function propose(
  disk: MemoryDisk,
  machine: ListMachine,
  random: SeededRandom,
  count: number,
): Promise<Run> {
  const opened = await openNode(disk, machine, sizes);
  if (!opened.ok) throw new Error(opened.error.message);
  const log = opened.value;
  const openedAt = disk.operations.length;
  const proposed: string[] = machine.texts();
  const entries = proposed.length;
  const acknowledgedAt: number[] = proposed.map(() => 0);
  for (let left = count; left > 0; ) {
    const batch = Math.min(left, 1 + random.integer(4));
    const answers = Array.from({ length: batch }, () => {
      const length = random.integer(4) === 0 ? random.integer(2_000) : random.integer(80);
      const command = `${proposed.length}:${random.text(length, 'abcdefgh')}`;
      proposed.push(command);
      return log.propose(Buffer.from(command, 'latin1')).then((answer) => {
        if (!answer.ok) throw new Error(answer.error.kind);
        // The result is how many commands there are: its place, whatever its index.
        acknowledgedAt[(answer.value.result ?? 0) - 1] = disk.operations.length;
      });
    });
    await Promise.all(answers);
    left -= batch;
  }
  await log.close();
  return { disk, proposed, acknowledgedAt, opened: { entries, at: openedAt } };
}

export async function run(seed: number, count: number): Promise<Run> {
  const random = new SeededRandom(seed);
  const disk = new MemoryDisk(emptyDisk, random);
  await initialise(disk);
  return propose(disk, new ListMachine(), random, count);
}

/** What is wrong with a disk on which `acknowledged` of `proposed` must be; `null` when nothing is. */
export async function judge(
  image: DiskImage,
  proposed: readonly string[],
  acknowledged: number,
  random: SeededRandom,
): Promise<string | null> {
  const disk = new MemoryDisk(image, random);
  const machine = new ListMachine();
  const opened = await openNode(disk, machine, sizes);
  if (!opened.ok) return `does not open: ${opened.error.message}`;
  const found = machine.texts();
  if (found.length < acknowledged) return `${found.length} entries of ${acknowledged} acknowledged`;
  if (found.length > proposed.length) return 'entries that were never proposed';
  const strange = found.findIndex((text, place) => text !== proposed[place]);
  if (strange >= 0) return `entry ${strange + 1} is not what was proposed`;
  const answer = await opened.value.propose(Buffer.from('after the crash'));
  if (!answer.ok || answer.value.result !== found.length + 1) return 'takes no new proposal';
  await opened.value.close();
  const again = new ListMachine();
  const reopened = await openNode(disk, again, sizes);
  if (!reopened.ok) return `does not open a second time: ${reopened.error.message}`;
  await reopened.value.close();
  const same = again.texts().join('\n') === [...found, 'after the crash'].join('\n');
  return same ? null : 'opened a second time, it holds something else';
}

export const fates: readonly CrashFate[] = ['kept', 'dropped', 'torn'];

/** Ways to draw what happens to each unsynced change. */
export const variants: readonly {
  readonly name: string;
  readonly fate: (random: SeededRandom) => CrashFate;
}[] = [
  { name: 'all kept', fate: () => 'kept' },
  { name: 'all dropped', fate: () => 'dropped' },
  { name: 'all torn', fate: () => 'torn' },
  { name: 'mixed', fate: (random) => random.pick(fates) },
  { name: 'mixed again', fate: (random) => random.pick(fates) },
  { name: 'torn again', fate: () => 'torn' },
];

export const initialiseOperations = async (): Promise<number> => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  return disk.operations.length;
};
