import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { HardState } from '../../src/raft/types.js';
import { type NodeRecovery, recoverNode, reportSurvivor } from '../../src/replica/recover-node.js';
import { initialiseDataDirectory, openDataDirectory } from '../../src/replication/data-directory.js';
import { DurableLog } from '../../src/replication/durable-log.js';
import { writeFence } from '../../src/replication/fence-file.js';
import { decodeSurvivorReport, encodeSurvivorReport } from '../../src/replication/survivor-report.js';
import { CommandLog, identityOf } from '../support/command-log.js';
import { dataDirectory, emptyDisk } from '../support/durable-node.js';
import { requestIdAt, startMs } from '../support/founded-cluster.js';
import {
  type CrashFate,
  CrashModel,
  type DiskImage,
  type Fault,
  MemoryDisk,
} from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { shortDirectory } from '../support/short-directory.js';

const ballastBytes = 700;

const openDirectory = (disk: MemoryDisk) =>
  openDataDirectory({
    dir: dataDirectory,
    nodeName: 'b',
    files: disk,
    tryLockFile: () => 0,
    pid: 1,
    ballastBytes,
  });

function must<T>(
  result: { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown },
): T {
  if (!result.ok) throw new Error(JSON.stringify(result.error));
  return result.value;
}

/** A log of which the end, from `commitIndex` on, is in doubt. */
function doubtfulLog(): { readonly log: CommandLog; readonly commitIndex: number } {
  const log = new CommandLog();
  log.found(['a', 'b', 'c']);
  log.keyStore('prod');
  log.key('prod', 'old');
  const commitIndex = log.lastIndex;
  log.startTerm();
  log.key('prod', 'new');
  log.add({ type: 'key.disable', keyStore: 'prod', externalKeyId: 'old' });
  return { log, commitIndex };
}

/** The disk of node `b`, which stopped for good. */
async function survivor(): Promise<DiskImage> {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  must(await initialiseDataDirectory({ ...identityOf('b'), dir: dataDirectory, files: disk, ballastBytes }));
  const directory = must(await openDirectory(disk));
  const { log: durable } = must(await DurableLog.open(directory, 2_000));
  const { log, commitIndex } = doubtfulLog();
  const half = Math.floor(log.lastIndex / 2);
  const hardState = (index: number): HardState => ({ term: log.term, votedFor: 'm-a', commitIndex: index });
  must(await durable.append({ entries: log.entries.slice(0, half), hardState: hardState(half) }));
  const early = new KeyStateMachine();
  for (const { index, data } of log.entries.slice(0, half)) early.apply(index, data);
  const at = { index: half, term: 1 };
  must(await durable.saveSnapshot(at, early.snapshot()));
  must(await durable.markSnapshot(at));
  must(await durable.append({ entries: log.entries.slice(half), hardState: hardState(commitIndex) }));
  await durable.close();
  await directory.close();
  return disk.image();
}

const config = {
  node: { name: 'b', dataDir: dataDirectory, runtimeDir: '/run' },
  cluster: {
    listen: { address: '127.0.0.1', port: 1 },
    advertise: 'new-b.example:7443',
    ca: '',
    certificate: '',
    privateKey: '',
  },
} as unknown as Parameters<typeof recoverNode>[0]['config'];

const recover = (
  disk: MemoryDisk,
  options: Partial<Parameters<typeof recoverNode>[0]> = {},
): ReturnType<typeof recoverNode> =>
  recoverNode({
    config,
    files: disk,
    tryLockFile: () => 0,
    clock: { ...systemClock, wallMs: () => startMs },
    random: new SeededRandom(disk.operations.length + 77),
    by: 'test',
    survivors: [],
    confirmed: true,
    ...options,
  });

interface Found {
  readonly clusterId: string;
  readonly machine: KeyStateMachine;
  readonly hardState: HardState;
  readonly lastIndex: number;
}

/** What a node that starts on this disk finds; all of the log is applied. */
async function start(disk: MemoryDisk): Promise<Found | string> {
  const directory = await openDirectory(disk);
  if (!directory.ok) return directory.error.message;
  const opened = await DurableLog.open(directory.value, 2_000);
  if (!opened.ok) return opened.error;
  const { recovered } = opened.value;
  await opened.value.log.close();
  await directory.value.close();
  const machine = new KeyStateMachine();
  const { snapshot, entries, hardState, lastIndex } = recovered;
  if (snapshot !== null) machine.restore(snapshot.index, snapshot.records);
  for (const { index, kind, data } of entries) {
    if (kind === 'noop') machine.skip(index);
    else machine.apply(index, data);
  }
  return { clusterId: directory.value.identity.clusterId, machine, hardState, lastIndex };
}

const formerHash = (): string => doubtfulLog().log.machine.stateHash();

/** Which of the two the disk holds, whole; else what is wrong with it. */
function judge(found: Found | string): 'former' | 'recovered' | Error {
  if (typeof found === 'string') return new Error(`does not open: ${found}`);
  const { log, commitIndex } = doubtfulLog();
  const { clusterId, machine, hardState, lastIndex } = found;
  if (clusterId === 'c-1') {
    const isWhole = machine.stateHash() === formerHash() && hardState.commitIndex === commitIndex;
    return isWhole ? 'former' : new Error('the former log is damaged');
  }
  const { state } = machine;
  const isWhole =
    state.cluster()?.clusterId === clusterId &&
    lastIndex === log.lastIndex + 1 &&
    hardState.commitIndex === lastIndex &&
    [...state.pending()].map(({ name }) => name).join() === 'new' &&
    state.key('prod', 'old')?.status === 'DISABLED' &&
    state.membership()?.voters.join() === 'm-b';
  return isWhole ? 'recovered' : new Error('the recovered log is damaged');
}

t.test('a dry run says all, and changes nothing but who holds the lock', async (t) => {
  const image = await survivor();
  const disk = new MemoryDisk(image, new SeededRandom(2));
  const recovery = must(await recover(disk, { confirmed: false }));
  const { log, commitIndex } = doubtfulLog();
  t.match(recovery, {
    done: false,
    formerClusterId: 'c-1',
    lastLog: { index: log.lastIndex, term: 2 },
    commitIndex,
    notCompared: ['a', 'c'],
    unconfirmed: [
      { command: 'key.create', names: { externalKeyId: 'new' }, becomes: 'pending' },
      { command: 'key.disable', becomes: 'kept' },
    ],
  } satisfies Partial<Record<keyof NodeRecovery, unknown>>);
  const after = disk.image();
  for (const [path, content] of after.files) {
    if (path !== `${dataDirectory}/lock`) t.ok(image.files.get(path)?.equals(content), path);
  }
  t.equal(after.files.size, image.files.size);
});

t.test('recovered, the node is a cluster of its own, and can be recovered again', async (t) => {
  const disk = new MemoryDisk(await survivor(), new SeededRandom(3));
  const recovery = must(await recover(disk));
  t.equal(recovery.done, true);
  const found = await start(disk);
  t.equal(judge(found), 'recovered');
  if (typeof found === 'string') return;
  t.equal(found.clusterId, recovery.newClusterId);
  t.match(found.machine.state.member('m-b'), { address: 'new-b.example:7443' });
  t.match(await recover(disk), { ok: false, error: /only voter/ });

  // It grows again, and loses its majority again.
  const directory = must(await openDirectory(disk));
  const { log: durable } = must(await DurableLog.open(directory, 2_000));
  const index = found.lastIndex + 1;
  const identity = { memberId: 'm-d', name: 'd', address: 'd:1' };
  const envelope = { atMs: startMs, by: 'test' };
  const commands = [
    { type: 'member.add', ...identity, joinSecretDigest: 'ab'.repeat(32), expiresAtMs: startMs + 1 },
    { type: 'member.join', memberId: 'm-d', joinSecretDigest: 'ab'.repeat(32), address: 'd:1' },
    { type: 'member.promote', memberId: 'm-d' },
  ] as const;
  const entries = commands.map((body, place) => ({
    index: index + place,
    term: 9,
    kind: 'membership' as const,
    data: encodeCommand({ ...body, ...envelope, requestId: requestIdAt(startMs, 900 + place) }),
  }));
  must(await durable.append({ entries, hardState: { term: 9, votedFor: null, commitIndex: index + 2 } }));
  await durable.close();
  await directory.close();
  const again = must(await recover(disk));
  t.match(again.formerLog, [/log-1$/, /snapshots-1$/]);
  const second = await start(disk);
  if (typeof second === 'string') throw new Error(second);
  t.equal(second.clusterId, again.newClusterId);
  t.strictSame(second.machine.membership(), { voters: ['m-b'], learners: [] });
  t.ok([...second.machine.state.formerMembers()].some(({ name }) => name === 'd'));
  t.equal([...second.machine.state.pending()].length, 1);
});

const fates: readonly CrashFate[] = ['kept', 'dropped', 'torn'];
const variants: readonly ((random: SeededRandom) => CrashFate)[] = [
  () => 'kept',
  () => 'dropped',
  () => 'torn',
  (random) => random.pick(fates),
  (random) => random.pick(fates),
];

t.test('a crash anywhere leaves the former log or the recovered one, and the next run ends it', async (t) => {
  const image = await survivor();
  const disk = new MemoryDisk(image, new SeededRandom(4));
  must(await recover(disk));
  const model = new CrashModel(image, disk.operations);
  const failures: string[] = [];
  const outcomes = { former: 0, recovered: 0 };
  for (let count = 0; count <= disk.operations.length; count += 1) {
    for (const [place, fate] of variants.entries()) {
      const random = new SeededRandom(count * 17 + place);
      const crashed = model.imageAfter(count, () => fate(random), random);
      const where = `after operation ${count} of ${disk.operations.length}, draw ${place}`;
      const outcome = judge(await start(new MemoryDisk(crashed, random)));
      if (outcome instanceof Error) {
        failures.push(`${where}: ${outcome.message}`);
        continue;
      }
      outcomes[outcome] += 1;
      if (count === disk.operations.length && outcome !== 'recovered')
        failures.push(`${where}: it was promised`);
      const next = new MemoryDisk(crashed, random);
      const again = await recover(next);
      const ended = judge(await start(next));
      if (again.ok !== (outcome === 'former')) failures.push(`${where}: again, ${JSON.stringify(again)}`);
      if (ended !== 'recovered') failures.push(`${where}: the next run left ${String(ended)}`);
    }
  }
  t.strictSame(failures.slice(0, 5), []);
  t.ok(outcomes.former > 20 && outcomes.recovered >= variants.length, JSON.stringify(outcomes));
});

t.test('a disk that fails anywhere: what was said is so', async (t) => {
  const image = await survivor();
  const whole = new MemoryDisk(image, new SeededRandom(5));
  must(await recover(whole));
  const failures: string[] = [];
  let unchanged = 0;
  for (let operation = 0; operation < whole.operations.length; operation += 1) {
    for (const code of ['EIO', 'ENOSPC'] as const) {
      const fault: Fault = { operation, code };
      const disk = new MemoryDisk(image, new SeededRandom(6), fault);
      const answer = await recover(disk);
      const outcome = judge(await start(new MemoryDisk(disk.image(), new SeededRandom(7))));
      const where = `operation ${operation}, ${code}`;
      if (outcome instanceof Error) failures.push(`${where}: ${outcome.message}`);
      if (answer.ok) {
        // Who holds the lock need not be known.
        if (outcome !== 'recovered') failures.push(`${where}: said to be done`);
      } else if (/Nothing was changed|cannot open/.test(answer.error)) {
        unchanged += 1;
        if (outcome !== 'former') failures.push(`${where}: ${answer.error}, and it was`);
      } else if (!/as it was before, or recovered/.test(answer.error))
        failures.push(`${where}: ${answer.error}`);
    }
  }
  t.strictSame(failures.slice(0, 5), []);
  t.ok(unchanged > 10, `${unchanged} times`);
});

t.test('the reports and directories of others are read, and the greater log is named', async (t) => {
  const image = await survivor();
  const folder = shortDirectory(t);
  const path = join(folder, 'c.report');
  const disk = new MemoryDisk(image, new SeededRandom(8));
  const own = must(await reportSurvivor({ config, files: disk, tryLockFile: () => 0 }, path));
  t.equal(own.nodeName, 'b');
  t.match(await recover(disk, { survivors: [path] }), { ok: true }, "this node's own");

  const lacking = new MemoryDisk(image, new SeededRandom(9));
  const greater = { ...own, memberId: 'm-c', nodeName: 'c', lastLog: { index: 99, term: 2 } };
  writeFileSync(path, encodeSurvivorReport(greater));
  t.match(await recover(lacking, { survivors: [path] }), { ok: false, error: /^c has the greater log/ });
  t.equal(judge(await start(lacking)), 'former');

  const text = encodeSurvivorReport(greater);
  for (let at = 0; at < text.length; at += 7) {
    const flipped = `${text.slice(0, at)}${text[at] === '0' ? '1' : '0'}${text.slice(at + 1)}`;
    if (decodeSurvivorReport(flipped).ok) t.fail(`a change at ${at} goes unnoticed`);
  }
  writeFileSync(path, text.replace('99', '98'));
  t.match(await recover(lacking, { survivors: [path] }), {
    ok: false,
    error: /c\.report is no report of a survivor: it does not match its checksum.*--report FILE/,
  });
  t.match(await recover(lacking, { survivors: [join(folder, 'none')] }), { ok: false, error: /cannot read/ });
});

t.test('not on a node that runs, is fenced off, or has no way to others', async (t) => {
  const disk = new MemoryDisk(await survivor(), new SeededRandom(10));
  t.match(await recover(disk, { tryLockFile: () => 11 }), { ok: false, error: /is in use by process/ });
  t.match(await recover(disk, { config: { ...config, cluster: null } }), { ok: false, error: /\[cluster\]/ });
  must(await writeFence(disk, dataDirectory, 'removed'));
  t.match(await recover(disk), { ok: false, error: /does not belong to the cluster any more \(removed\)/ });
  t.equal(judge(await start(disk)), 'former');
});
