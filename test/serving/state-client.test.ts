import { connect } from 'node:net';
import type { Test } from 'tap';
import t from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { systemTimers, type Timers } from '../../src/base/timers.js';
import { encodeFrame, encodeFreshFrame, encodeIndexFrame, encodeJsonFrame } from '../../src/ops/frames.js';
import { FrameType, frameBytesMax, type Standing } from '../../src/ops/state-link.js';
import { reconnectFirstMs, reconnectMaxMs, StateClient } from '../../src/serving/state-client.js';
import { CapturedLogger } from '../support/captured-logger.js';
import { History, ScriptedReplica } from '../support/scripted-replica.js';
import { SeededRandom } from '../support/seeded-random.js';

/** A client that reconnects at once and keeps the delays it asked for. */
function startClient(t: Test, replica: ScriptedReplica, clock: Clock = systemClock) {
  const logger = new CapturedLogger();
  const changes: (string | null)[] = [];
  const delays: number[] = [];
  const fresh: (readonly [asOfMs: number, appliedIndex: number])[] = [];
  const standings: Standing[] = [];
  const waiters = new Set<() => void>();
  const timers: Timers = {
    after: (delayMs, run) => {
      delays.push(delayMs);
      return systemTimers.after(1, run);
    },
  };
  const told = (): void => {
    for (const waiter of waiters) waiter();
  };
  const client = new StateClient({
    connect: () => connect(replica.socketPath),
    hello: {
      linkVersion: 1,
      pid: 1,
      slot: 2,
      supervisorNonce: 'n',
      processId: 'p',
      startedAtMs: 3,
      version: '9',
    },
    clock,
    timers,
    random: new SeededRandom(1),
    logger,
    onState: (_state, command) => {
      changes.push(command?.type ?? null);
      told();
    },
    onLink: told,
    onFresh: (asOfMs) => {
      fresh.push([asOfMs, client.state?.appliedIndex ?? 0]);
      told();
    },
    onStanding: (standing) => {
      standings.push(standing);
      told();
    },
    onHsmRequest: async ({ id, op, bytes }) => {
      const value = bytes === undefined ? op : 'x'.repeat(Number(bytes));
      return { id: Number(id), ok: true, value };
    },
  });
  t.teardown(() => client.close());
  client.start();
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        const waiter = (): void => {
          waiters.delete(waiter);
          resolve();
        };
        waiters.add(waiter);
      });
    }
  };
  return { client, logger, changes, delays, fresh, standings, until };
}

async function startReplica(t: Test): Promise<ScriptedReplica> {
  const replica = new ScriptedReplica(t);
  await replica.start();
  return replica;
}

t.test('a snapshot, then entries, each acknowledged', async (t) => {
  const replica = await startReplica(t);
  const { client, changes } = startClient(t, replica);
  const link = await replica.link();
  t.match(await link.nextJson(FrameType.hello), { linkVersion: 1, slot: 2, linkedBefore: false });
  const history = new History();
  history.keyStore('one');
  t.equal(client.state, null, 'nothing before the snapshot is whole');
  link.send(...history.snapshot());
  t.equal(await link.acknowledged(), 1);
  t.ok(client.linked);
  t.equal(client.state?.keyStore('one')?.status, 'ENABLED');
  link.send(history.apply({ type: 'keystore.disable', name: 'one' }));
  t.equal(await link.acknowledged(), 2);
  t.equal(client.state?.keyStore('one')?.status, 'DISABLED', 'in force when acknowledged');
  t.strictSame(changes, [null, 'keystore.disable']);
});

t.test("the log's own entries pass, and change nothing but the index", async (t) => {
  const replica = await startReplica(t);
  const { client, changes } = startClient(t, replica);
  const link = await replica.link();
  const history = new History();
  history.keyStore('one');
  link.send(...history.snapshot());
  t.equal(await link.acknowledged(), 1);
  const hash = client.state?.hash();
  link.send(encodeIndexFrame(FrameType.entry, 2, new Uint8Array(0)));
  t.equal(await link.acknowledged(), 2);
  t.equal(client.state?.appliedIndex, 2);
  t.equal(client.state?.hash(), hash);
  t.strictSame(changes, [null], 'nobody is told');
});

t.test('an empty key state is one, too', async (t) => {
  const replica = await startReplica(t);
  const { client } = startClient(t, replica);
  const link = await replica.link();
  link.send(...new History().snapshot());
  t.equal(await link.acknowledged(), 0);
  t.equal(client.state?.appliedIndex, 0);
});

t.test('frames torn into bytes', async (t) => {
  const replica = await startReplica(t);
  const { client } = startClient(t, replica);
  const link = await replica.link();
  const history = new History();
  history.keyStore('one');
  const frames = [...history.snapshot(), history.keyStore('two')];
  await link.sendTorn(Buffer.concat(frames));
  while ((await link.acknowledged()) !== 2);
  t.equal(client.state?.keyStore('two')?.name, 'two');
});

t.test('a snapshot cut midway changes nothing; the next one replaces the state at its end', async (t) => {
  const replica = await startReplica(t);
  const { client, until } = startClient(t, replica);
  const first = await replica.link();
  const history = new History();
  history.keyStore('one');
  first.send(...history.snapshot());
  t.equal(await first.acknowledged(), 1);
  const before = client.state;
  first.socket.destroy();
  await until(() => !client.linked);

  history.keyStore('two');
  const second = await replica.link();
  t.match(await second.nextJson(FrameType.hello), { linkedBefore: true });
  const snapshot = history.snapshot();
  second.send(...snapshot.slice(0, -2));
  second.socket.end();
  await second.next(FrameType.applied);
  t.equal(client.state, before, 'the last state stays in force');
  t.notOk(client.linked);

  const third = await replica.link();
  third.send(...snapshot);
  t.equal(await third.acknowledged(), 2);
  t.equal(client.state?.keyStore('two')?.name, 'two');
  t.ok(client.linked);
});

t.test('the state survives the replica, and follows the next one', async (t) => {
  const replica = await startReplica(t);
  const { client, delays, logger, until } = startClient(t, replica);
  const link = await replica.link();
  const history = new History();
  history.keyStore('one');
  link.send(...history.snapshot());
  await link.acknowledged();
  await replica.stop();
  await until(() => !client.linked);
  t.equal(client.state?.keyStore('one')?.name, 'one');
  const attempts = delays.length;
  while (delays.length < attempts + 8) await new Promise((resolve) => setImmediate(resolve));
  const backOff = delays.slice(-8);
  t.ok(backOff.every((delay) => delay >= reconnectFirstMs / 2 && delay <= reconnectMaxMs));
  t.ok((backOff.at(-1) ?? 0) >= reconnectMaxMs / 2, 'it doubles');
  t.equal(
    logger.lines.filter(({ level }) => level === 'warn').length,
    2,
    'a line per reason, not per attempt',
  );
  await replica.start();
  const again = await replica.link();
  again.send(...history.snapshot());
  t.equal(await again.acknowledged(), 1);
});

t.test('before the first key state, the replica is waited for, and missed only after a while', async (t) => {
  const replica = new ScriptedReplica(t);
  const { delays, logger } = startClient(t, replica);
  while (delays.length < 10) await new Promise((resolve) => setImmediate(resolve));
  t.match(logger.lines, [
    { level: 'info', message: 'waiting for the replica', fields: { reason: /ENOENT/ } },
  ]);
  while (delays.length < 40) await new Promise((resolve) => setImmediate(resolve));
  t.match(logger.lines.slice(1), [{ level: 'warn', message: /and no key state yet$/ }]);
  t.equal(logger.lines.length, 2);
});

t.test('it never goes back to an older key state', async (t) => {
  const replica = await startReplica(t);
  const { client, logger } = startClient(t, replica);
  const old = new History();
  old.keyStore('one');
  const newer = new History();
  newer.keyStore('one');
  newer.apply({ type: 'keystore.disable', name: 'one' });
  const first = await replica.link();
  first.send(...newer.snapshot());
  t.equal(await first.acknowledged(), 2);
  first.socket.destroy();
  const second = await replica.link();
  second.send(...old.snapshot());
  t.equal(await second.acknowledged(), null, 'the link is cut');
  t.equal(client.state?.keyStore('one')?.status, 'DISABLED');
  t.match(logger.last('no link to the replica: going on with the key state at hand'), {
    reason: /index 1\) is older than ours \(index 2/,
  });
});

t.test('key state of another cluster is refused', async (t) => {
  const replica = await startReplica(t);
  const { client } = startClient(t, replica);
  const [ours, theirs] = ['ours', 'theirs'].map((clusterId) => {
    const history = new History();
    history.apply({ type: 'cluster.init', clusterId, nodeName: 'n' });
    return history;
  });
  const first = await replica.link();
  first.send(...(ours?.snapshot() ?? []));
  t.equal(await first.acknowledged(), 1);
  first.socket.destroy();
  const second = await replica.link();
  second.send(...(theirs?.snapshot() ?? []));
  t.equal(await second.acknowledged(), null);
  t.equal(client.state?.cluster()?.clusterId, 'ours');
});

const history = new History();
history.keyStore('one');
const snapshot = history.snapshot();
const entry = (index: number, command: Uint8Array): Buffer =>
  encodeIndexFrame(FrameType.entry, index, command);
const [second, third] = [history.keyStore('two'), history.keyStore('three')];
const latest = history.snapshot();
for (const [name, frames] of [
  ['an entry before a snapshot', [second]],
  ['a gap', [...snapshot, third]],
  ['an entry once more', [...snapshot, second, second]],
  ['a command that nobody can decode', [...snapshot, entry(2, Buffer.from('x'))]],
  ['a record outside a snapshot', [encodeFrame(FrameType.snapshotRecord, Buffer.from('{}'))]],
  ['an end without its begin', [encodeIndexFrame(FrameType.snapshotEnd, 0)]],
  ['a record left out', [...snapshot.slice(0, 1), ...snapshot.slice(2)]],
  ['an end at another index', [...snapshot.slice(0, -1), encodeIndexFrame(FrameType.snapshotEnd, 2)]],
  ['an index cut short', [encodeFrame(FrameType.snapshotBegin, Buffer.alloc(7))]],
  ['an HSM request that is no JSON', [encodeFrame(FrameType.hsmRequest, Buffer.from('{'))]],
  ['a frame that goes the other way', [encodeJsonFrame(FrameType.hello, {})]],
  ['a frame of no known type', [Buffer.from([0, 0, 0, 1, 99])]],
  ['a frame longer than any', [Buffer.from([0xff, 0xff, 0xff, 0xff, 1])]],
] as const) {
  t.test(`${name}: the link is cut, and another one tried`, async (t) => {
    const replica = await startReplica(t);
    const { client } = startClient(t, replica);
    const link = await replica.link();
    link.send(...frames);
    while ((await link.next(FrameType.applied)) !== null);
    const again = await replica.link();
    again.send(...latest);
    t.equal(await again.acknowledged(), 3);
    t.equal(client.state?.appliedIndex, 3);
  });
}

t.test('HSM requests are answered under their id', async (t) => {
  const replica = await startReplica(t);
  startClient(t, replica);
  const link = await replica.link();
  link.send(encodeJsonFrame(FrameType.hsmRequest, { id: 7, op: 'list-objects' }));
  t.strictSame(await link.nextJson(FrameType.hsmReply), { id: 7, ok: true, value: 'list-objects' });
  link.send(encodeJsonFrame(FrameType.hsmRequest, { id: 8, bytes: frameBytesMax }));
  t.match(await link.nextJson(FrameType.hsmReply), { id: 8, ok: false, message: /more than the state link/ });
});

t.test('a large key state is taken in slices: the loop turns meanwhile', async (t) => {
  const replica = await startReplica(t);
  // Each look at the clock takes a millisecond, so that a slice holds a few records.
  let nowMs = 0;
  const clock: Clock = { wallMs: () => 0, monotonicMs: () => nowMs++ };
  const { client } = startClient(t, replica, clock);
  const link = await replica.link();
  const large = new History();
  for (let i = 0; i < 200; i++) large.keyStore(`ks-${i}`);
  let turns = 0;
  const turn = (): void => {
    turns += 1;
    if (client.state === null) setImmediate(turn);
  };
  turn();
  link.send(Buffer.concat(large.snapshot()));
  while ((await link.acknowledged()) !== 200);
  t.ok(turns >= 200 / 3, `${turns} turns`);
  t.equal(client.state?.counts().keyStores, 200);
});

t.test('freshness counts once all that it covers is in force, and standing whenever it comes', async (t) => {
  const replica = await startReplica(t);
  const { fresh, standings, until } = startClient(t, replica);
  const link = await replica.link();
  const history = new History();
  link.send(...history.snapshot());
  const standing: Standing = { mayServe: false, reason: 'just added', fleetSize: 3 };
  link.send(encodeJsonFrame(FrameType.standing, standing));
  link.send(history.keyStore('one'), encodeFreshFrame(5_000.9, 1));
  await until(() => fresh.length > 0 && standings.length > 0);
  t.strictSame(fresh, [[5_000, 1]], 'rounded down, with the entry before it in force');
  t.strictSame(standings, [standing]);
});

t.test('freshness of an index that has not come, or that is malformed, ends the link', async (t) => {
  for (const frame of [
    encodeFreshFrame(5_000, 1),
    encodeIndexFrame(FrameType.fresh, 5_000),
    encodeJsonFrame(FrameType.standing, { mayServe: 'yes' }),
  ]) {
    const replica = await startReplica(t);
    const { fresh, standings } = startClient(t, replica);
    const link = await replica.link();
    link.send(...new History().snapshot(), frame);
    t.equal(await link.next(FrameType.hsmReply), null, 'the link has ended');
    t.strictSame([fresh, standings], [[], []]);
  }
});
