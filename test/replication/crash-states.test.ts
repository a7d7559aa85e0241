import t from 'tap';
import { dataDirectory, emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { CrashModel, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { fates, initialiseOperations, judge, propose, run, sizes, variants } from './crash-run.js';

for (const seed of [1, 2]) {
  t.test(`seed ${seed}: every crash state holds what was acknowledged, and goes on`, async (t) => {
    const { disk, proposed, acknowledgedAt } = await run(seed, 45);
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
  const { disk, acknowledgedAt } = await run(3, 20);
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
      for (let draw = 0; draw < 2; draw += 1) {
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
  const { disk, acknowledgedAt } = await run(4, 24);
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
      const machine = new ListMachine();
      const opened = await openNode(new MemoryDisk(image, random), machine, sizes);
      if (opened.ok) {
        whole += 1;
        t.strictSame(machine.texts(), []);
        await opened.value.close();
      } else {
        t.match(opened.error.message, /xksctl cluster init/, `after operation ${count}`);
      }
    }
  }
  t.ok(whole >= variants.length, 'finished, it opens');
  t.ok(disk.image().files.has(`${dataDirectory}/identity.json`));
});
