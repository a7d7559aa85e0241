import { once } from 'node:events';
import { statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { encodeFrame, encodeIndexFrame } from '../../src/ops/frames.js';
import { FrameType, type Standing } from '../../src/ops/state-link.js';
import type { RunningServingProcess } from '../../src/ops/supervision.js';
import { StatePublication } from '../../src/replica/state-publication.js';
import { shortDirectory } from '../support/short-directory.js';
import { FakeServingProcess, readyReport, testNonce } from './fake-serving-process.js';
import { MemoryLog } from './memory-log.js';

/** Ends when a test waits for something that never comes; nothing waits for it to pass. */
const neverMs = 60_000;

const standing: Standing = { mayServe: true, reason: '', fleetSize: 1 };

interface Setup {
  readonly log: MemoryLog;
  readonly publication: StatePublication;
  readonly socketPath: string;
  /** Process ids that live. */
  readonly living: Set<number>;
  readonly fleet: { running: readonly RunningServingProcess[] | null };
  link(options?: Parameters<typeof FakeServingProcess.link>[1]): Promise<FakeServingProcess>;
  /** Creates a key store; its index. */
  change(): Promise<number>;
}

async function setUp(t: Test, linkBufferBytesMax?: number): Promise<Setup> {
  const log = new MemoryLog();
  const living = new Set<number>();
  const fleet: Setup['fleet'] = { running: [] };
  const socketPath = join(shortDirectory(t), 'run', 'state.sock');
  const publication = new StatePublication({
    socketPath,
    supervisorNonce: testNonce,
    state: log,
    logger: silentLogger,
    isProcessAlive: (pid) => living.has(pid),
    runningServingProcesses: () => fleet.running,
    standing,
    ...(linkBufferBytesMax === undefined ? {} : { linkBufferBytesMax }),
  });
  t.same(await publication.listen(), { ok: true, value: null });
  const linked: FakeServingProcess[] = [];
  t.teardown(async () => {
    for (const serving of linked) serving.end();
    await publication.close();
  });
  return {
    log,
    publication,
    socketPath,
    living,
    fleet,
    link: async (options) => {
      const serving = await FakeServingProcess.link(socketPath, options);
      linked.push(serving);
      return serving;
    },
    change: async () => {
      const index = log.appliedIndex + 1;
      await log.propose(
        encodeCommand({
          type: 'keystore.create',
          name: `store-${index}`,
          uriPathPrefix: `store-${index}`,
          regions: ['us-east-1'],
          adopted: false,
          requestId: `request-${index}`,
          atMs: 1,
          by: 'uid=0',
        }),
      );
      return index;
    },
  };
}

/** Its acknowledgement has been read. */
async function acknowledged(publication: StatePublication, slot: number, index: number): Promise<void> {
  const isRead = (): boolean =>
    publication.links().some((link) => link.hello.slot === slot && link.appliedIndex >= index);
  while (!isRead()) await new Promise((resolve) => setImmediate(resolve));
}

const settled = (serving: FakeServingProcess, index: number): Promise<void> =>
  serving.until(() => serving.appliedIndex >= index && serving.snapshots > 0);

t.test('a linked process gets the state as a snapshot, then every entry in order', async (t) => {
  const { change, link, log } = await setUp(t);
  for (let count = 0; count < 5; count += 1) await change();
  const early = await link({ slot: 1 });
  await settled(early, 5);
  t.equal(early.machine.state.counts().keyStores, 5);
  for (let count = 0; count < 200; count += 1) await change();
  const late = await link({ slot: 2 });
  for (let count = 0; count < 50; count += 1) await change();
  await Promise.all([settled(early, 255), settled(late, 255)]);
  t.equal(early.snapshots, 1);
  t.equal(late.snapshots, 1);
  for (const serving of [early, late]) {
    t.same([...serving.machine.snapshot()], [...log.machine.snapshot()], 'the same state');
  }
});

t.test('a change made while a snapshot is on its way follows it', async (t) => {
  const { change, link } = await setUp(t);
  await change();
  const serving = await link();
  // Committed after the link, whatever of the hello has been read by then.
  const indexes = await Promise.all([change(), change(), change()]);
  await settled(serving, Math.max(...indexes));
  t.equal(serving.machine.state.counts().keyStores, 4);
});

t.test('changes wait behind a snapshot that a slow process is still taking', async (t) => {
  const { change, link, log, publication } = await setUp(t);
  await change();
  // More than the socket holds.
  for (let count = 0; count < 3_000; count += 1) {
    await log.propose(
      encodeCommand({
        type: 'key.create',
        keyStore: 'store-1',
        externalKeyId: `key-${count}`,
        objectId: count.toString(16).padStart(32, '0'),
        witness: null,
        checkValue: null,
        usage: ['ENCRYPT'],
        description: 'd'.repeat(256),
        requestId: `request-${count}`,
        atMs: 1,
        by: 'uid=0',
      }),
    );
  }
  const slow = await link();
  slow.stopReading();
  while (publication.links().length === 0) await new Promise(setImmediate);
  const index = await change();
  slow.resumeReading();
  await settled(slow, index);
  t.equal(slow.machine.state.counts().keys, 3_000);
  t.equal(slow.machine.state.counts().keyStores, 2);
});

t.test('acknowledgedBy waits for every linked process', async (t) => {
  const { change, link, publication } = await setUp(t);
  const quick = await link({ slot: 1 });
  const slow = await link({ slot: 2 });
  await Promise.all([settled(quick, 0), settled(slow, 0)]);
  slow.silent = true;
  const index = await change();
  let answered = false;
  const waiting = publication.acknowledgedBy(index, neverMs).then((laggards) => {
    answered = true;
    return laggards;
  });
  await settled(slow, index);
  t.equal(answered, false, 'it has applied, but not acknowledged');
  slow.acknowledge();
  t.same(await waiting, []);
});

t.test('acknowledgedBy names who has not applied in time', async (t) => {
  const { change, link, publication } = await setUp(t);
  const quick = await link({ slot: 1 });
  const stuck = await link({ slot: 2, pid: 4242 });
  await Promise.all([settled(quick, 0), settled(stuck, 0)]);
  stuck.silent = true;
  const index = await change();
  await settled(quick, index);
  await acknowledged(publication, 1, index);
  t.same(await publication.acknowledgedBy(index, 20), [
    { slot: 2, pid: 4242, appliedIndex: 0, connected: true },
  ]);
});

t.test('a process being started is waited for from its hello on', async (t) => {
  const { change, link, publication } = await setUp(t);
  const index = await change();
  const starting = await link();
  starting.silent = true;
  await starting.until(() => starting.snapshots > 0);
  t.match(await publication.acknowledgedBy(index, 20), [{ slot: 1, appliedIndex: 0, connected: true }]);
  starting.acknowledge();
  t.same(await publication.acknowledgedBy(index, neverMs), []);
});

t.test('a process that lost its link may still serve: it counts until it has ended', async (t) => {
  const { change, link, publication, living } = await setUp(t);
  const serving = await link({ pid: 777 });
  await settled(serving, 0);
  living.add(777);
  serving.end();
  await serving.closed();
  while (publication.links().length > 0) await new Promise((resolve) => setImmediate(resolve));
  const index = await change();
  t.same(await publication.acknowledgedBy(index, 20), [
    { slot: 1, pid: 777, appliedIndex: 0, connected: false },
  ]);
  const waiting = publication.acknowledgedBy(index, neverMs);
  living.delete(777);
  t.same(await waiting, [], 'no longer once its process is gone');
});

t.test('a process that lost its link counts until its slot has a new process', async (t) => {
  const { change, link, publication, living } = await setUp(t);
  const first = await link({ pid: 777 });
  await settled(first, 0);
  living.add(777);
  first.end();
  await first.closed();
  const index = await change();
  const waiting = publication.acknowledgedBy(index, neverMs);
  const second = await link({ pid: 778 });
  await settled(second, index);
  t.same(await waiting, []);
});

t.test('a process whose slot was taken over while it had its link is gone', async (t) => {
  const { change, link, publication, living } = await setUp(t);
  living.add(777);
  const first = await link({ pid: 777 });
  await settled(first, 0);
  const second = await link({ pid: 778 });
  await settled(second, 0);
  await first.closed();
  const index = await change();
  await settled(second, index);
  await acknowledged(publication, 1, index);
  t.same(await publication.acknowledgedBy(index, 20), []);
});

t.test('processes that the supervisor runs and that have no link are unconfirmed', async (t) => {
  const { change, link, publication, fleet } = await setUp(t);
  // As many links as processes: the second link is of a process that the supervisor has ended.
  fleet.running = [
    { slot: 1, pid: 777 },
    { slot: 2, pid: 888 },
  ];
  for (const [slot, pid] of [
    [1, 777],
    [3, 999],
  ] as const) {
    await settled(await link({ slot, pid }), 0);
  }
  const index = await change();
  // Long enough for the others on a busy machine; the one without a link never comes.
  t.same(await publication.acknowledgedBy(index, 1_000), [
    { slot: 2, pid: 888, appliedIndex: null, connected: false },
  ]);
  const waiting = publication.acknowledgedBy(index, neverMs);
  fleet.running = [{ slot: 1, pid: 777 }];
  publication.fleetChanged();
  t.same(await waiting, []);
});

t.test('nothing is confirmed before the supervisor has said which processes run', async (t) => {
  const { change, link, publication, fleet } = await setUp(t);
  fleet.running = null;
  await settled(await link(), 0);
  const index = await change();
  t.same(await publication.acknowledgedBy(index, 20), [
    { slot: null, pid: null, appliedIndex: null, connected: false },
  ]);
});

t.test('a process of another supervisor gets nothing, and displaces nobody', async (t) => {
  const { change, link, publication } = await setUp(t);
  const ours = await link({ pid: 777 });
  await settled(ours, 0);
  const stranger = await link({ pid: 778, supervisorNonce: 'another' });
  await stranger.closed();
  t.equal(stranger.snapshots, 0);
  const index = await change();
  await settled(ours, index);
  t.same(await publication.acknowledgedBy(index, neverMs), []);
  t.same(
    publication.links().map(({ hello }) => hello.pid),
    [777],
  );
});

t.test('a link that takes nothing is cut, and starts anew with a snapshot', async (t) => {
  const { change, link, publication } = await setUp(t, 4_096);
  const processId = 'the-same';
  const stopped = await link({ processId });
  await settled(stopped, 0);
  stopped.stopReading();
  const closed = stopped.closed();
  while (publication.links().length > 0) {
    await change();
    await new Promise(setImmediate);
  }
  stopped.resumeReading();
  await closed;
  const index = await change();
  const again = await link({ processId, linkedBefore: true });
  await settled(again, index);
  t.equal(again.snapshots, 1);
  t.same(await publication.acknowledgedBy(index, neverMs), []);
});

t.test('a peer that speaks otherwise is cut', async (t) => {
  const { link, socketPath, publication } = await setUp(t);
  const rejected = async (name: string, bytes: Uint8Array): Promise<void> => {
    const serving = await link({ slot: 9 });
    await settled(serving, 0);
    serving.raw(bytes);
    await serving.closed();
    t.pass(name);
  };
  await rejected('an unknown frame type', Buffer.from('00000001ff', 'hex'));
  await rejected('a frame that goes the other way', encodeIndexFrame(FrameType.snapshotEnd, 1));
  await rejected('an index that was never sent', encodeIndexFrame(FrameType.applied, 5));
  await rejected('a second hello', encodeFrame(FrameType.hello, Buffer.from('{}')));
  await rejected('a report that is none', encodeFrame(FrameType.metrics, Buffer.from('{"metrics":1}')));
  await rejected('a reply that is none', encodeFrame(FrameType.hsmReply, Buffer.from('[]')));
  const stranger = connect(socketPath);
  const closed = new Promise<void>((resolve) => stranger.once('close', () => resolve()));
  stranger.on('error', () => {});
  stranger.write(encodeIndexFrame(FrameType.applied, 0));
  await closed;
  t.same(publication.links(), []);
});

t.test('what a process reports is seen', async (t) => {
  const { link, publication } = await setUp(t);
  const serving = await link();
  await settled(serving, 0);
  const reported = new Promise<void>((resolve) => {
    publication.observe({
      onHello: () => {},
      onHsmReply: () => {},
      onClosed: () => {},
      onMetrics: () => resolve(),
    });
  });
  serving.report(readyReport);
  await reported;
  t.equal(publication.links()[0]?.report?.readiness.ready, true);
});

t.test('the socket is the owner’s alone, and replaces one that a dead process left', async (t) => {
  const { socketPath, publication } = await setUp(t);
  t.equal(statSync(socketPath).mode & 0o777, 0o600);
  t.equal(statSync(join(socketPath, '..')).mode & 0o777, 0o700);
  await publication.close();
  writeFileSync(socketPath, '');
  const again = new StatePublication({
    socketPath,
    supervisorNonce: testNonce,
    state: new MemoryLog(),
    logger: silentLogger,
    isProcessAlive: () => false,
    runningServingProcesses: () => [],
    standing,
  });
  t.same(await again.listen(), { ok: true, value: null });
  await again.close();
});

t.test('a socket on which another process answers is left alone', async (t) => {
  const socketPath = join(shortDirectory(t), 'state.sock');
  const other = createServer().listen(socketPath);
  await once(other, 'listening');
  t.teardown(() => other.close());
  const publication = new StatePublication({
    socketPath,
    supervisorNonce: testNonce,
    state: new MemoryLog(),
    logger: silentLogger,
    isProcessAlive: () => false,
    runningServingProcesses: () => [],
    standing,
  });
  const refused = await publication.listen();
  t.match(refused, {
    ok: false,
    error: /another process answers on .*state\.sock; is xksd running already\?/,
  });
  t.ok(statSync(socketPath).isSocket());
});

t.test('standing and freshness reach every process, those that come later too', async (t) => {
  const { link, log, publication, change } = await setUp(t);
  const early = await link({ slot: 1 });
  await early.until(() => early.standing !== null);
  t.strictSame(early.standing, standing);
  const removed: Standing = { mayServe: false, reason: 'removed', fleetSize: 1 };
  publication.standingChanged(removed);
  const late = await link({ slot: 2 });
  for (const serving of [early, late]) {
    await serving.until(() => serving.standing?.mayServe === false);
    t.strictSame(serving.standing, removed);
  }
  const index = await change();
  log.confirm(7_000);
  for (const serving of [early, late]) {
    await serving.until(() => serving.freshAsOfMs !== null);
    t.equal(serving.freshAsOfMs, 7_000);
    t.equal(serving.appliedIndex, index, 'after all that it covers');
  }
});

t.test("an entry of the log's own takes an index at serving processes too", async (t) => {
  const { link, log, change } = await setUp(t);
  const serving = await link();
  await change();
  log.skip();
  const index = await change();
  await settled(serving, index);
  t.equal(index, 3);
  t.equal(serving.machine.state.counts().keyStores, 2);
});

t.test('a state that was replaced by a snapshot goes out anew, to processes that link again', async (t) => {
  const { link, log, change } = await setUp(t);
  await change();
  const serving = await link();
  await settled(serving, 1);
  const other = new MemoryLog();
  for (let count = 0; count < 3; count += 1) other.skip();
  log.restore(3, [...other.snapshot()]);
  await serving.closed();
  const again = await link();
  await settled(again, 3);
  t.equal(again.machine.state.counts().keyStores, 0);
});
