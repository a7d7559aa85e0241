import t from 'tap';
import type { Entry, HardState } from '../../src/raft/types.js';
import { DurableLog } from '../../src/replication/durable-log.js';
import type { Recovered } from '../../src/replication/log-recovery.js';
import { emptyDisk, initialise, openDirectory } from '../support/durable-node.js';
import { type CrashFate, CrashModel, type DiskImage, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

/**
 * What Raft asks of its storage, crashed at every point: entries and hard state of one batch are there together or not
 * at all, a suffix is replaced in whole batches, and a received snapshot stands or the log that it replaces does.
 */
const segmentBytesMax = 3_000;

/** What must be on the disk: everything by its text, whether it is in a snapshot or in the log. */
interface Content {
  readonly texts: readonly string[];
  readonly hardState: HardState;
}

interface Step {
  readonly kind: 'append' | 'replace' | 'vote' | 'save' | 'install';
  /** Operations done when it began and when it had ended. */
  readonly from: number;
  readonly to: number;
  readonly before: Content;
  readonly after: Content;
}

const textOf = (data: Uint8Array): string => Buffer.from(data).toString('latin1');

const contentOf = ({ snapshot, entries, hardState }: Recovered): Content => ({
  texts: [...(snapshot?.records ?? []), ...entries.map(({ data }) => data)].map(textOf),
  hardState,
});

const key = ({ texts, hardState }: Content): string => JSON.stringify([texts, hardState]);

async function open(disk: MemoryDisk) {
  const directory = await openDirectory(disk);
  if (!directory.ok) return directory.error.message;
  const opened = await DurableLog.open(directory.value, segmentBytesMax);
  return opened.ok ? opened.value : opened.error;
}

/** A member that follows changing leaders: what it writes, and what its disk holds then. */
class Follower {
  readonly steps: Step[] = [];
  readonly #disk: MemoryDisk;
  readonly #log: DurableLog;
  readonly #random: SeededRandom;
  #content: Content = { texts: [], hardState: { term: 0, votedFor: null, commitIndex: 0 } };
  #terms: number[] = [];
  #savedIndex = 0;

  constructor(disk: MemoryDisk, log: DurableLog, random: SeededRandom) {
    this.#disk = disk;
    this.#log = log;
    this.#random = random;
  }

  #text(index: number, term: number): string {
    const length = this.#random.integer(3) === 0 ? this.#random.integer(1_500) : this.#random.integer(60);
    return `${index} of ${term}: ${this.#random.text(length, 'abcdefgh')}`;
  }

  async #do(
    kind: Step['kind'],
    after: Content,
    write: () => Promise<{ readonly ok: boolean }>,
  ): Promise<void> {
    const from = this.#disk.operations.length;
    const before = this.#content;
    const written = await write();
    if (!written.ok) throw new Error(`${kind}: ${JSON.stringify(written)}`);
    this.#content = after;
    this.steps.push({ kind, from, to: this.#disk.operations.length, before, after });
  }

  /** Entries from `firstIndex` on, with hard state more often than not. */
  async #append(kind: 'append' | 'replace', firstIndex: number, term: number): Promise<void> {
    const { texts, hardState } = this.#content;
    const count = 1 + this.#random.integer(3);
    const entries: Entry[] = Array.from({ length: count }, (_, place) => {
      const index = firstIndex + place;
      return { index, term, kind: 'command', data: Buffer.from(this.#text(index, term), 'latin1') };
    });
    const lastIndex = firstIndex + count - 1;
    const { commitIndex } = hardState;
    const changed = term !== hardState.term || this.#random.integer(3) > 0;
    const committed = commitIndex + this.#random.integer(lastIndex - commitIndex + 1);
    const next = changed
      ? { term, votedFor: term === hardState.term ? hardState.votedFor : null, commitIndex: committed }
      : null;
    const after = {
      texts: [...texts.slice(0, firstIndex - 1), ...entries.map(({ data }) => textOf(data))],
      hardState: next ?? hardState,
    };
    await this.#do(kind, after, () => this.#log.append({ entries, hardState: next }));
    this.#terms = [...this.#terms.slice(0, firstIndex - 1), ...entries.map(() => term)];
  }

  append(): Promise<void> {
    return this.#append('append', this.#content.texts.length + 1, Math.max(1, this.#content.hardState.term));
  }

  /** A new leader's log parts from ours. */
  async replace(): Promise<void> {
    const { texts, hardState } = this.#content;
    const uncommitted = texts.length - hardState.commitIndex;
    if (uncommitted === 0) return this.append();
    const firstIndex = hardState.commitIndex + 1 + this.#random.integer(uncommitted);
    return this.#append('replace', firstIndex, hardState.term + 1);
  }

  vote(): Promise<void> {
    const { texts, hardState } = this.#content;
    const next = { ...hardState, term: hardState.term + 1, votedFor: `member-${this.#random.integer(3)}` };
    return this.#do('vote', { texts, hardState: next }, () =>
      this.#log.append({ entries: [], hardState: next }),
    );
  }

  async save(): Promise<void> {
    const { texts, hardState } = this.#content;
    const index = hardState.commitIndex;
    if (index <= this.#savedIndex) return;
    const at = { index, term: this.#terms[index - 1] ?? 0 };
    const records = texts.slice(0, index).map((text) => Buffer.from(text, 'latin1'));
    await this.#do('save', this.#content, async () => {
      const saved = await this.#log.saveSnapshot(at, records);
      return saved.ok ? this.#log.markSnapshot(at) : saved;
    });
    this.#savedIndex = index;
  }

  /** The leader has forgotten what we lack. */
  async install(): Promise<void> {
    const { texts, hardState } = this.#content;
    const { commitIndex } = hardState;
    // Sometimes within a log whose end is of another history.
    const index = commitIndex + 1 + this.#random.integer(6);
    const term = hardState.term + 1;
    const received = [
      ...texts.slice(0, commitIndex),
      ...Array.from({ length: index - commitIndex }, (_, place) => this.#text(commitIndex + 1 + place, term)),
    ];
    const next = { term, votedFor: null, commitIndex: index };
    await this.#do('install', { texts: received, hardState: next }, () =>
      this.#log.installSnapshot(
        { index, term },
        received.map((text) => Buffer.from(text, 'latin1')),
        next,
      ),
    );
    this.#terms = [...this.#terms.slice(0, commitIndex), ...received.slice(commitIndex).map(() => term)];
    this.#savedIndex = index;
  }
}

async function run(
  seed: number,
  count: number,
): Promise<{ readonly disk: MemoryDisk; readonly steps: readonly Step[] }> {
  const random = new SeededRandom(seed);
  const disk = new MemoryDisk(emptyDisk, random);
  await initialise(disk);
  const opened = await open(disk);
  if (typeof opened === 'string') throw new Error(opened);
  const follower = new Follower(disk, opened.log, random);
  for (let step = 0; step < count; step += 1) {
    const drawn = random.integer(12);
    if (drawn < 5) await follower.append();
    else if (drawn < 8) await follower.replace();
    else if (drawn < 9) await follower.vote();
    else if (drawn < 11) await follower.save();
    else await follower.install();
  }
  await opened.log.close();
  return { disk, steps: follower.steps };
}

type Outcome = 'before' | 'after' | 'same';

/** Which of two states the disk is in, or what is wrong with it; also after a second start, and with more in the log. */
async function judge(image: DiskImage, step: Step, random: SeededRandom): Promise<Outcome | Error> {
  const disk = new MemoryDisk(image, random);
  const opened = await open(disk);
  if (typeof opened === 'string') return new Error(`does not open: ${opened}`);
  const content = contentOf(opened.recovered);
  const found = key(content);
  const isBefore = found === key(step.before);
  if (!isBefore && found !== key(step.after)) {
    return new Error(`is in no state that there was: ${found.slice(-300)}`);
  }
  const index = opened.recovered.lastIndex + 1;
  const { hardState } = content;
  const term = hardState.term + 1;
  const entry: Entry = { index, term, kind: 'command', data: Buffer.from('after the crash') };
  const next = { term, votedFor: 'member-9', commitIndex: index };
  const appended = await opened.log.append({ entries: [entry], hardState: next });
  if (!appended.ok) return new Error(`takes nothing more: ${appended.error}`);
  await opened.log.close();
  const again = await open(disk);
  if (typeof again === 'string') return new Error(`does not open a second time: ${again}`);
  await again.log.close();
  const expected = { texts: [...content.texts, 'after the crash'], hardState: next };
  if (key(contentOf(again.recovered)) !== key(expected))
    return new Error('holds something else the second time');
  if (key(step.before) === key(step.after)) return 'same';
  return isBefore ? 'before' : 'after';
}

const fates: readonly CrashFate[] = ['kept', 'dropped', 'torn'];

const variants: readonly ((random: SeededRandom) => CrashFate)[] = [
  () => 'kept',
  () => 'dropped',
  () => 'torn',
  () => 'torn',
  (random) => random.pick(fates),
  (random) => random.pick(fates),
];

for (const seed of [1, 2]) {
  t.test(`seed ${seed}: each crash leaves what was before a step or what is after it, whole`, async (t) => {
    const { disk, steps } = await run(seed, 50);
    const model = new CrashModel(emptyDisk, disk.operations);
    const failures: string[] = [];
    const outcomes = new Map<string, number>();
    for (const step of steps) {
      for (let count = step.from; count <= step.to; count += 1) {
        for (const [place, fate] of variants.entries()) {
          const random = new SeededRandom(seed * 1_000_003 + count * 17 + place);
          const image = model.imageAfter(count, () => fate(random), random);
          const outcome = await judge(image, step, random);
          const where = `${step.kind}, after operation ${count} of ${step.from} to ${step.to}, draw ${place}`;
          if (outcome instanceof Error) failures.push(`${where}: ${outcome.message}`);
          else if (count === step.to && outcome === 'before') failures.push(`${where}: it was promised`);
          else outcomes.set(`${step.kind} ${outcome}`, (outcomes.get(`${step.kind} ${outcome}`) ?? 0) + 1);
        }
      }
    }
    t.strictSame(failures.slice(0, 5), []);
    for (const kind of ['append', 'replace', 'vote', 'install']) {
      for (const outcome of ['before', 'after'])
        t.ok(outcomes.has(`${kind} ${outcome}`), `${kind} ${outcome}`);
    }
    t.ok(
      disk.operations.some(({ kind }) => kind === 'remove'),
      'the run compacted',
    );
    t.ok(
      disk.operations.filter(({ kind }) => kind === 'rename').length > 10,
      'in many segments and snapshots',
    );
    t.comment(JSON.stringify(Object.fromEntries(outcomes)));
  });
}

t.test('a crash while the crash in an installation is recovered from', async (t) => {
  const { disk, steps } = await run(4, 40);
  const model = new CrashModel(emptyDisk, disk.operations);
  const failures: string[] = [];
  let recoveries = 0;
  for (const step of steps.filter(({ kind }) => kind === 'install')) {
    for (let count = step.from; count <= step.to; count += 1) {
      const random = new SeededRandom(9_000_017 + count);
      const image = model.imageAfter(count, () => random.pick(fates), random);
      const second = new MemoryDisk(image, random);
      const opened = await open(second);
      if (typeof opened === 'string') {
        failures.push(`after operation ${count}: ${opened}`);
        continue;
      }
      await opened.log.close();
      const found = contentOf(opened.recovered);
      // What the first start found, the next one must find too.
      const settled: Step = { ...step, before: found, after: found };
      const secondModel = new CrashModel(image, second.operations);
      if (second.operations.some(({ kind }) => kind === 'rename' || kind === 'remove')) recoveries += 1;
      for (let done = 0; done <= second.operations.length; done += 1) {
        for (let draw = 0; draw < 3; draw += 1) {
          const state = secondModel.imageAfter(done, () => random.pick(fates), random);
          const outcome = await judge(state, settled, random);
          if (outcome instanceof Error)
            failures.push(`after operation ${count}, then ${done}: ${outcome.message}`);
        }
      }
    }
  }
  t.strictSame(failures.slice(0, 5), []);
  t.ok(recoveries > 3, `${recoveries} recoveries changed the disk`);
});
