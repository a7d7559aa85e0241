import t from 'tap';
import type { Entry } from '../../src/raft/types.js';
import { DurableLog } from '../../src/replication/durable-log.js';
import type { AppliedEntry } from '../../src/replication/ordered-log.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';
import { openRaftLog, type RaftLogOptions } from '../../src/replication/raft-log.js';
import { closeWaitMsMax, raftLogLimits, readsMax } from '../../src/replication/raft-log-limits.js';
import { emptyDisk, initialise, nodeReport, openDirectory } from '../support/durable-node.js';
import { ListMachine } from '../support/list-machine.js';
import { type Fault, MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';
import { VirtualTime } from '../support/virtual-time.js';
import { ScriptedLoop } from './scripted-loop.js';

const entry = (index: number, term = 1): Entry => ({
  index,
  term,
  kind: 'command',
  data: Buffer.from(`command ${index}`),
});

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

const message: PeerMessage = {
  kind: 'snapshotChunkResponse',
  position: { index: 1, term: 1 },
  nextOffset: 0,
};

/** Lets all that waits for nothing but its turn go on. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function open(options: Partial<RaftLogOptions<number>> = {}, disk?: MemoryDisk) {
  const files = disk ?? new MemoryDisk(emptyDisk, new SeededRandom(1));
  if (disk === undefined) await initialise(files);
  const directory = await openDirectory(files);
  if (!directory.ok) throw new Error(directory.error.message);
  const time = new VirtualTime();
  const machine = new ListMachine();
  const fatal: string[] = [];
  const halted: string[] = [];
  const warnings: string[] = [];
  const sent: unknown[] = [];
  let loop: ScriptedLoop | null = null;
  const opened = await openRaftLog<number>({
    directory: directory.value,
    stateMachine: machine,
    transport: {
      send: (...details) => sent.push(details),
      setMembers: (members) => sent.push(members),
      close: async () => {
        sent.push('closed');
      },
    },
    timers: time,
    bootTimeMs: () => time.monotonicMs(),
    random: () => 0.25,
    report: nodeReport,
    onFatal: (text) => fatal.push(text),
    onHalted: (text) => halted.push(text),
    onWarning: (text) => warnings.push(text),
    createLoop: (loopOptions) => {
      loop = new ScriptedLoop(loopOptions);
      return loop;
    },
    ...options,
  });
  if (!opened.ok) throw new Error(opened.error.message);
  if (loop === null) throw new Error('no loop was made');
  const made: ScriptedLoop = loop;
  return {
    ...opened.value,
    files,
    time,
    machine,
    fatal,
    halted,
    warnings,
    sent,
    loop: made,
    ports: made.options.ports,
  };
}

type Opened = Awaited<ReturnType<typeof open>>;

/** Waits until the loop was told so. */
async function called({ loop }: Opened, name: string, place = 0): Promise<unknown[]> {
  for (;;) {
    const call = loop.calls.filter(([found]) => found === name)[place];
    if (call !== undefined) return call;
    await turn();
  }
}

t.test('the loop gets what the disk holds, is started once and ticked', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  const directory = await openDirectory(disk);
  if (!directory.ok) throw new Error(directory.error.message);
  const durable = await DurableLog.open(directory.value);
  if (!durable.ok) throw new Error(durable.error);
  const hardState = { term: 4, votedFor: 'member-2', commitIndex: 3 };
  await durable.value.log.installSnapshot({ index: 3, term: 2 }, [bytes('a'), bytes('b')], hardState);
  await durable.value.log.append({ entries: [entry(4, 4)], hardState: null });
  await durable.value.log.close();

  const node = await open({}, disk);
  const { options, calls } = node.loop;
  t.equal(options.memberId, 'member-1');
  t.equal(options.founder, true);
  t.match(options.recovered, { hardState, snapshot: { index: 3, term: 2 }, entries: [entry(4, 4)] });
  t.strictSame(options.limits, raftLogLimits);
  t.strictSame(node.machine.texts(), ['a', 'b']);
  t.equal(node.log.appliedIndex, 3);
  t.strictSame(calls, [['start']]);
  node.time.advance(raftLogLimits.tickMs * 3);
  t.strictSame(calls, [['start'], ['tick'], ['tick'], ['tick']]);
  node.loop.timing = { ...raftLogLimits, tickMs: 10 };
  // The one under way is as long as it was.
  node.time.advance(raftLogLimits.tickMs + 3 * 10);
  t.equal(calls.splice(4).length, 4, 'it ticks as the loop says');
  t.equal(node.engine.memberId, 'member-1');
  t.equal(node.engine.clusterId, 'cluster-1');
  t.equal(node.engine.transferLeadership('member-2'), true);
  t.equal(node.engine.transferLeadership('member-3'), false);
  await node.log.close();
  t.equal(node.time.pending, 0, 'no timer is left');
});

t.test('a snapshot that the state machine does not take', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  const node = await open({}, disk);
  node.ports.persistSnapshot(1, { index: 1, term: 1 }, [bytes('a'), bytes('b')], null);
  await called(node, 'persisted');
  await node.log.close();
  await t.rejects(open({}, disk), /the snapshot as of index 1 can't be taken: 2 commands as of 1/);
});

t.test('proposals and reads: an id each, one outcome each', async (t) => {
  const node = await open();
  const { log, ports } = node;
  const command = bytes('first');
  const first = log.propose(command);
  command.write('later');
  const second = log.propose(bytes('second'), { membership: true, timeoutMs: 7, onlyTerm: 3 });
  const [, firstId, kind, data, , anyTerm] = await called(node, 'propose');
  t.strictSame([kind, anyTerm], ['command', null]);
  t.strictSame(data, Uint8Array.from(bytes('first')), 'the proposer may reuse its buffer');
  const [, secondId, secondKind, , timeoutMs, onlyTerm] = await called(node, 'propose', 1);
  t.strictSame([secondKind, timeoutMs, onlyTerm], ['membership', 7, 3]);
  t.not(firstId, secondId);
  const applied: AppliedEntry<number> = { index: 1, command, result: 1 };
  ports.proposed(String(secondId), { ok: false, error: { kind: 'unknown', reason: 'who knows' } });
  ports.proposed(String(firstId), { ok: true, value: applied });
  ports.proposed(String(firstId), { ok: false, error: { kind: 'overloaded' } });
  ports.proposed('of another time', { ok: true, value: applied });
  t.strictSame(await first, { ok: true, value: applied });
  t.match(await second, { ok: false, error: { kind: 'unknown' } });

  const reads = [log.readIndex(5), log.readIndex(), log.readIndex()];
  const [, readId, readTimeoutMs] = await called(node, 'readIndex');
  t.equal(readTimeoutMs, 5);
  ports.read(String(readId), 9);
  ports.read(String(readId), 10);
  t.strictSame(await reads[0], { ok: true, value: 9 });
  ports.read(String((await called(node, 'readIndex', 1))[1]), null);
  t.match(await reads[1], { ok: false, error: { kind: 'no-quorum', reason: /no majority has confirmed/ } });
  node.loop.halted = 'a bug';
  ports.read(String((await called(node, 'readIndex', 2))[1]), null);
  t.match(await reads[2], { ok: false, error: { kind: 'closed', reason: 'a bug' } });
  await log.close();
});

t.test('what would be too much', async (t) => {
  const node = await open({ limits: { proposalsMax: 2, commandBytesMax: 10 } });
  const { log, ports } = node;
  t.strictSame(await log.propose(new Uint8Array(11)), { ok: false, error: { kind: 'too-large' } });
  const waiting = [log.propose(new Uint8Array(10)), log.propose(new Uint8Array(0))];
  t.strictSame(await log.propose(bytes('x')), { ok: false, error: { kind: 'overloaded' } });
  ports.proposed(String((await called(node, 'propose'))[1]), { ok: false, error: { kind: 'overloaded' } });
  await waiting[0];
  const again = log.propose(bytes('x'));
  t.equal((await called(node, 'propose', 2))[2], 'command', 'there is room again');
  const reads = Array.from({ length: readsMax }, () => log.readIndex());
  t.match(await log.readIndex(), { ok: false, error: { kind: 'overloaded', reason: /reads wait/ } });
  t.equal(node.loop.calls.filter(([name]) => name === 'readIndex').length, readsMax);
  const closed = log.close();
  node.time.advance(closeWaitMsMax);
  await closed;
  for (const answer of [...waiting.slice(1), again, ...reads]) t.equal((await answer).ok, false);
});

t.test('the disk does one thing after another, and the loop hears of each', async (t) => {
  const node = await open({ segmentBytesMax: 1_024 });
  const { log, ports, files } = node;
  ports.persist(1, { entries: [entry(1), entry(2)], hardState: { term: 1, votedFor: null, commitIndex: 2 } });
  await called(node, 'persisted');
  // A snapshot beside the log, while the log goes on.
  ports.saveSnapshot(2, { index: 2, term: 1 }, [bytes('one'), bytes('two')]);
  ports.persist(3, { entries: [entry(3)], hardState: null });
  t.strictSame(await called(node, 'persisted', 1), ['persisted', 3]);
  t.strictSame(await called(node, 'snapshotSaved'), ['snapshotSaved', 2]);
  ports.persistSnapshot(4, { index: 9, term: 2 }, [bytes('theirs')], {
    term: 2,
    votedFor: null,
    commitIndex: 9,
  });
  ports.persist(5, { entries: [entry(10, 2)], hardState: null });
  t.strictSame(await called(node, 'persisted', 3), ['persisted', 5]);
  await log.close();
  const reopened = await open({}, files);
  t.match(reopened.loop.options.recovered, {
    hardState: { term: 2, votedFor: null, commitIndex: 9 },
    snapshot: { index: 9, term: 2 },
    entries: [entry(10, 2)],
  });
  t.strictSame(reopened.machine.texts(), ['theirs']);
  await reopened.log.close();
});

t.test('subscribers hear of entries, snapshots and freshness while they are subscribed', async (t) => {
  const { log, ports } = await open();
  const heard: unknown[] = [];
  const unsubscribe = log.subscribe({
    onEntry: ({ index }) => heard.push(['entry', index, log.appliedIndex]),
    onRestore: (index) => heard.push(['restore', index, log.appliedIndex]),
    onFresh: (asOfMs, index) => heard.push(['fresh', asOfMs, index]),
  });
  log.subscribe({ onEntry: () => {} });
  ports.applied({ index: 1, command: bytes(''), result: null });
  ports.restored(8);
  ports.fresh(500, 8);
  unsubscribe();
  ports.applied({ index: 9, command: bytes('x'), result: 1 });
  t.strictSame(heard, [
    ['entry', 1, 1],
    ['restore', 8, 8],
    ['fresh', 500, 8],
  ]);
  t.equal(log.appliedIndex, 9);
  await log.close();
});

t.test('messages go in and out, and members to the transport', async (t) => {
  const { inbox, loop, ports, sent, warnings, log } = await open();
  inbox.receive('member-2', message);
  inbox.unreachable('member-3');
  t.strictSame(loop.calls.slice(1), [
    ['receive', 'member-2', message],
    ['unreachable', 'member-3'],
  ]);
  ports.membershipChanged({ voters: ['member-1', 'member-2'], learners: [] });
  ports.send('member-2', message);
  ports.warn('look here');
  t.strictSame(sent, [{ voters: ['member-1', 'member-2'], learners: [] }, ['member-2', message]]);
  t.match(warnings, ['look here']);
  await log.close();
  t.equal(sent.at(-1), 'closed');
  const before = loop.calls.length;
  inbox.receive('member-2', message);
  inbox.unreachable('member-2');
  t.equal(loop.calls.length, before, 'a closed log hears nothing');
});

t.test('the loop is never entered twice at once', async (t) => {
  const node = await open();
  const { loop, log, inbox, ports } = node;
  let depth = 0;
  for (const name of ['receive', 'propose', 'readIndex', 'unreachable']) {
    loop.on[name] = () => {
      depth += 1;
      t.equal(depth, 1, name);
      if (name === 'receive') ports.applied({ index: 1, command: bytes('x'), result: 1 });
      depth -= 1;
    };
  }
  log.subscribe({
    onEntry: () => {
      void log.propose(bytes('in answer'));
      void log.readIndex();
      inbox.unreachable('member-2');
    },
  });
  inbox.receive('member-2', message);
  t.strictSame(
    loop.calls.map(([name]) => name),
    ['start', 'receive', 'propose', 'readIndex', 'unreachable'],
  );
  const closed = log.close();
  node.time.advance(closeWaitMsMax);
  await closed;
});

t.test('a disk that fails ends all, once, and nothing is acknowledged any more', async (t) => {
  const probe = await open();
  const begin = probe.files.operations.length;
  await probe.log.close();
  const fault: Fault = { operation: begin, code: 'EIO' };
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1), fault);
  await initialise(disk);
  const node = await open({}, disk);
  const { log, loop, ports, fatal, time, inbox, sent } = node;
  const waiting = log.propose(bytes('x'));
  const read = log.readIndex();
  const [, proposalId] = await called(node, 'propose');
  ports.persist(1, { entries: [entry(1)], hardState: null });
  ports.persist(2, { entries: [entry(2)], hardState: null });
  const reason = /cannot write to the data directory \/data: EIO/;
  t.match(await waiting, { ok: false, error: { kind: 'closed', reason } });
  t.match(await read, { ok: false, error: { kind: 'closed', reason } });
  t.match(await log.propose(bytes('y')), { ok: false, error: { kind: 'closed', reason } });
  t.match(await log.readIndex(), { ok: false, error: { kind: 'closed', reason } });
  await turn();
  t.match(fatal, [reason]);
  t.equal(fatal.length, 1);
  ports.proposed(String(proposalId), { ok: true, value: { index: 1, command: bytes('x'), result: 1 } });
  ports.send('member-2', message);
  const calls = loop.calls.length;
  time.advance(10_000);
  inbox.receive('member-2', message);
  t.equal(loop.calls.length, calls, 'the loop is left alone');
  t.notOk(loop.calls.some(([name]) => name === 'persisted'));
  t.strictSame(sent, [], 'and nobody else hears of it');
  await log.close();
});

t.test('a log whose disk failed says that it has stopped, and leads no more', async (t) => {
  const probe = await open();
  const begin = probe.files.operations.length;
  await probe.log.close();
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1), { operation: begin, code: 'ENOSPC' });
  await initialise(disk);
  const { engine, log, loop, ports, fatal } = await open({}, disk);
  const status = loop.status();
  loop.status = () => ({ ...status, raft: { ...status.raft, role: 'leader', leader: 'member-1' } });
  t.match(engine.status(), { halted: null, raft: { role: 'leader', leader: 'member-1' } });
  ports.persist(1, { entries: [entry(1)], hardState: null });
  while (fatal.length === 0) await turn();
  t.match(engine.status(), { halted: /ENOSPC/, raft: { role: 'follower', leader: null, progress: [] } });
  await log.close();
});

t.test('a bug in the loop, or in a subscriber, ends all too', async (t) => {
  const node = await open();
  node.loop.on['tick'] = () => {
    throw new Error('a bug');
  };
  node.time.advance(raftLogLimits.tickMs);
  t.match(node.fatal, ['replication cannot go on: a bug']);
  node.time.advance(10_000);
  t.equal(node.fatal.length, 1);
  await node.log.close();
});

t.test('a halted replica says so and goes on as its loop sees fit', async (t) => {
  const node = await open();
  node.ports.halted('state differs');
  t.strictSame(node.halted, ['state differs']);
  t.strictSame(node.fatal, []);
  void node.log.propose(bytes('a denial'));
  t.equal((await called(node, 'propose'))[2], 'command');
  const closed = node.log.close();
  node.time.advance(closeWaitMsMax);
  await closed;
});

t.test('closing waits for what was proposed', async (t) => {
  const node = await open();
  const { log, loop, ports } = node;
  const waiting = log.propose(bytes('x'));
  const [, proposalId] = await called(node, 'propose');
  const closed = log.close();
  t.match(await log.propose(bytes('y')), {
    ok: false,
    error: { kind: 'closed', reason: 'the log is closing' },
  });
  t.match(await log.readIndex(), { ok: false, error: { kind: 'closed' } });
  ports.persist(1, { entries: [entry(1)], hardState: null });
  await called(node, 'persisted');
  t.notOk(loop.calls.some(([name]) => name === 'stop'));
  ports.proposed(String(proposalId), { ok: true, value: { index: 1, command: bytes('x'), result: 1 } });
  t.match(await waiting, { ok: true });
  await closed;
  t.equal(loop.calls.at(-1)?.[0], 'stop');
  t.equal(node.time.pending, 0);
});

t.test('closing does not wait for ever, and finishes what the disk is at', async (t) => {
  const node = await open();
  const { log, loop, ports, files } = node;
  const waiting = log.propose(bytes('x'));
  const [, proposalId] = await called(node, 'propose');
  ports.persist(1, { entries: [entry(1)], hardState: { term: 1, votedFor: null, commitIndex: 1 } });
  loop.on['stop'] = () => {
    ports.proposed(String(proposalId), { ok: false, error: { kind: 'unknown', reason: 'stopping' } });
  };
  const closed = log.close();
  node.time.advance(closeWaitMsMax);
  t.match(await waiting, { ok: false, error: { kind: 'unknown', reason: 'stopping' } });
  await closed;
  const reopened = await open({}, files);
  t.equal(reopened.loop.options.recovered.entries.length, 1);
  await reopened.log.close();
});
