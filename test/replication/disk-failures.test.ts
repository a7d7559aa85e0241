import t from 'tap';
import { dataDirectory, emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { CrashModel, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { initialiseOperations, judge, run, sizes, variants } from './crash-run.js';

/** All segments in one, to compare. A snapshot that was being written may go on: it is of what is durable. */
const logBytes = (disk: MemoryDisk): string =>
  [...disk.image().files]
    .filter(([path]) => path.startsWith(`${dataDirectory}/log/`))
    .map(([path, content]) => `${path}:${content.toString('latin1')}`)
    .join();

for (const code of ['EIO', 'ENOSPC'] as const) {
  t.test(
    `${code} at each operation: the log says so, acknowledges nothing more, and lost nothing`,
    async (t) => {
      const failures: string[] = [];
      const begin = await initialiseOperations();
      const end = (await run(5, 26)).disk.operations.length;
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
          { length: 26 },
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
