import t from 'tap';
import { dataDirectory, emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { type CrashFate, CrashModel, type DiskImage, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

/**
 * A run is recorded; then, for every prefix of what was done to the disk, the disk is put together as a crash at that
 * moment may leave it, and opened again.
 */
const sizes = { segmentBytesMax: 4_096, snapshotEntries: 12 };

interface Run {
  readonly disk: MemoryDisk;
  readonly proposed: readonly string[];
  /** For each number of acknowledged proposals, how many operations had been done. */
  readonly acknowledgedAt: readonly number[];
  /** What was there when the log was opened, and how many operations had been done then. */
  readonly opened: { readonly entries: number; readonly at: number };
}

/** Proposes `count` commands, some at once, some long enough for several sectors. */
async function propose(
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
        acknowledgedAt[answer.value.index - 1] = disk.operations.length;
      });
    });
    await Promise.all(answers);
    left -= batch;
  }
  await log.close();
  return { disk, proposed, acknowledgedAt, opened: { entries, at: openedAt } };
}

async function run(seed: number, count: number): Promise<Run> {
  const random = new SeededRandom(seed);
  const disk = new MemoryDisk(emptyDisk, random);
  await initialise(disk);
  return propose(disk, new ListMachine(), random, count);
}

/** What is wrong with a disk on which `acknowledged` of `proposed` must be; `null` when nothing is. */
async function judge(
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
  if (!answer.ok || answer.value.index !== found.length + 1) return 'takes no new proposal';
  await opened.value.close();
  const again = new ListMachine();
  const reopened = await openNode(disk, again, sizes);
  if (!reopened.ok) return `does not open a second time: ${reopened.error.message}`;
  await reopened.value.close();
  const same = again.texts().join('\n') === [...found, 'after the crash'].join('\n');
  return same ? null : 'opened a second time, it holds something else';
}

const fates: readonly CrashFate[] = ['kept', 'dropped', 'torn'];

/** Ways to draw what happens to each unsynced change. */
const variants: readonly { readonly name: string; readonly fate: (random: SeededRandom) => CrashFate }[] = [
  { name: 'all kept', fate: () => 'kept' },
  { name: 'all dropped', fate: () => 'dropped' },
  { name: 'all torn', fate: () => 'torn' },
  { name: 'mixed', fate: (random) => random.pick(fates) },
  { name: 'mixed again', fate: (random) => random.pick(fates) },
  { name: 'torn again', fate: () => 'torn' },
];

/** All segments in one, to compare. A snapshot that was being written may go on: it is of what is durable. */
const logBytes = (disk: MemoryDisk): string =>
  [...disk.image().files]
    .filter(([path]) => path.startsWith(`${dataDirectory}/log/`))
    .map(([path, content]) => `${path}:${content.toString('latin1')}`)
    .join();

const initialiseOperations = async (): Promise<number> => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  return disk.operations.length;
};

for (const seed of [1, 2]) {
  t.test(`seed ${seed}: every crash state holds what was acknowledged, and goes on`, async (t) => {
    const { disk, proposed, acknowledgedAt } = await run(seed, 70);
    const model = new CrashModel(emptyDisk, disk.operations);
    const kinds = new Set(disk.operations.map(({ kind }) => kind));
    t.ok(kinds.has('remove'), 'the run compacted');
    const failures: string[] = [];
    let states = 0;
    for (let count = await initialiseOperations(); count <= disk.operations.length; count += 1) {
      const acknowledged = acknowledgedAt.filter((at) => at <= count).length;
      for (const [place, { name, fate }] of variants.entries()) {
        const random = new SeededRandom(seed * 1_000_003 + count * 17 + place);
        const image = model.imageAfter(count, () => fate(random), random);
        const problem = await judge(image, proposed, acknowledged, random);
        states += 1;
        if (problem !== null) failures.push(`after operation ${count}, ${name}: ${problem}`);
      }
    }
    t.strictSame(failures.slice(0, 5), []);
    t.comment(`${states} crash states of ${disk.operations.length} operations`);
    t.ok(states > 500);
  });
}

t.test('a crash while a crash is being recovered from, and right after', async (t) => {
  const { disk, acknowledgedAt } = await run(3, 60);
  const model = new CrashModel(emptyDisk, disk.operations);
  const failures: string[] = [];
  let recoveries = 0;
  for (let count = await initialiseOperations(); count <= disk.operations.length; count += 1) {
    // The crashes that leave something to recover from.
    if (disk.operations[count - 1]?.kind !== 'write') continue;
    const acknowledged = acknowledgedAt.filter((at) => at <= count).length;
    const random = new SeededRandom(7_000_003 + count);
    const image = model.imageAfter(count, () => 'torn', random);
    const second = new MemoryDisk(image, random);
    const machine = new ListMachine();
    const again = await propose(second, machine, random, 2);
    if (again.proposed.length - 2 < acknowledged) failures.push(`after operation ${count}: lost entries`);
    if (second.operations.some(({ kind }) => kind === 'truncate' || kind === 'remove')) recoveries += 1;
    const secondModel = new CrashModel(image, second.operations);
    for (let done = 0; done <= second.operations.length; done += 1) {
      const held = again.acknowledgedAt.filter((at) => at <= done).length;
      for (let draw = 0; draw < 3; draw += 1) {
        const state = secondModel.imageAfter(done, () => random.pick(fates), random);
        const problem = await judge(state, again.proposed, held, random);
        if (problem !== null) failures.push(`after operation ${count}, then ${done}: ${problem}`);
      }
    }
  }
  t.strictSame(failures.slice(0, 5), []);
  t.ok(recoveries > 10, `${recoveries} recoveries changed the disk`);
});

t.test('a process killed, another started, then the power fails: what either said stays', async (t) => {
  const { disk, acknowledgedAt } = await run(4, 40);
  const failures: string[] = [];
  let states = 0;
  for (let killed = await initialiseOperations(); killed <= disk.operations.length; killed += 1) {
    const random = new SeededRandom(9_000_003 + killed);
    const restarted = MemoryDisk.after(emptyDisk, disk.operations.slice(0, killed), random);
    const again = await propose(restarted, new ListMachine(), random, 2);
    const { entries, at } = again.opened;
    const model = new CrashModel(emptyDisk, restarted.operations);
    const acknowledged = acknowledgedAt.filter((when) => when <= killed).length;
    for (let done = killed; done <= restarted.operations.length; done += 1) {
      // From the moment that it is open on, what it found is applied, answered from and published.
      const later = again.acknowledgedAt.slice(entries).filter((when) => when <= done).length;
      const held = done < at ? acknowledged : entries + later;
      for (const fate of [() => 'dropped' as const, () => random.pick(fates)]) {
        const problem = await judge(model.imageAfter(done, fate, random), again.proposed, held, random);
        states += 1;
        if (problem !== null) failures.push(`killed after operation ${killed}, then ${done}: ${problem}`);
      }
    }
  }
  t.strictSame(failures.slice(0, 5), []);
  t.comment(`${states} crash states`);
});

t.test('an interrupted initialisation is seen as one, and never as a node that lost its data', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  const model = new CrashModel(emptyDisk, disk.operations);
  let whole = 0;
  for (let count = 0; count <= disk.operations.length; count += 1) {
    for (const [place, { fate }] of variants.entries()) {
      const random = new SeededRandom(count * 17 + place);
      const image = model.imageAfter(count, () => fate(random), random);
      const opened = await openNode(new MemoryDisk(image, random), new ListMachine(), sizes);
      if (opened.ok) {
        whole += 1;
        t.equal(opened.value.appliedIndex, 0);
        await opened.value.close();
      } else {
        t.match(opened.error.message, /xksctl cluster init/, `after operation ${count}`);
      }
    }
  }
  t.ok(whole >= variants.length, 'finished, it opens');
  t.ok(disk.image().files.has(`${dataDirectory}/identity.json`));
});

for (const code of ['EIO', 'ENOSPC'] as const) {
  t.test(
    `${code} at each operation: the log says so, acknowledges nothing more, and lost nothing`,
    async (t) => {
      const failures: string[] = [];
      const begin = await initialiseOperations();
      const end = (await run(5, 40)).disk.operations.length;
      let fatals = 0;
      for (let operation = begin; operation < end; operation += 1) {
        const random = new SeededRandom(5);
        const disk = new MemoryDisk(emptyDisk, random, { operation, code });
        await initialise(disk);
        const fatal: string[] = [];
        const machine = new ListMachine();
        const opened = await openNode(disk, machine, { ...sizes, onFatal: (message) => fatal.push(message) });
        if (!opened.ok) {
          t.match(opened.error.message, new RegExp(code));
          continue;
        }
        const log = opened.value;
        const proposed = Array.from(
          { length: 40 },
          (_, place) => `${place}:${random.text(random.integer(900), 'abc')}`,
        );
        let acknowledged = 0;
        let refused = false;
        for (const command of proposed) {
          const answer = await log.propose(Buffer.from(command, 'latin1'));
          if (answer.ok && refused) failures.push(`operation ${operation}: acknowledged after the failure`);
          if (answer.ok) acknowledged += 1;
          else refused = true;
        }
        // An append that was under way when a snapshot failed may finish; nothing new begins.
        await new Promise((resolve) => setImmediate(resolve));
        const logAtFailure = logBytes(disk);
        if (refused) await log.propose(Buffer.from('too late'));
        await log.close();
        if (logBytes(disk) !== logAtFailure) failures.push(`operation ${operation}: went on writing`);
        if (fatal.length > 1) failures.push(`operation ${operation}: ${fatal.length} fatal messages`);
        if (refused !== (fatal.length === 1))
          failures.push(`operation ${operation}: refused without saying so`);
        if (fatal.length === 1) {
          fatals += 1;
          t.match(fatal[0], new RegExp(`cannot write to the data directory.*${code}`));
        }
        const model = new CrashModel(emptyDisk, disk.operations);
        for (const { name, fate } of variants) {
          const image = model.imageAfter(disk.operations.length, () => fate(random), random);
          const problem = await judge(image, proposed, acknowledged, random);
          if (problem !== null) failures.push(`operation ${operation}, ${name}: ${problem}`);
        }
        const problem = await judge(disk.image(), proposed, acknowledged, random);
        if (problem !== null) failures.push(`operation ${operation}, restarted: ${problem}`);
      }
      t.strictSame(failures.slice(0, 5), []);
      t.ok(fatals > 30, `${fatals} fatal failures`);
    },
  );
}
