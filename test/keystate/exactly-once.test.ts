import t from 'tap';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import type { KeyState } from '../../src/keystate/key-state.js';
import { requestLimits } from '../../src/keystate/request-table.js';
import { SnapshotReader, snapshotRecords } from '../../src/keystate/snapshot-codec.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { Command } from '../../src/keystate/types.js';
import {
  type CommandBody,
  FoundedCluster,
  hourMs,
  requestIdAt,
  startMs,
} from '../support/founded-cluster.js';

const createStore = (name: string): CommandBody => ({
  type: 'keystore.create',
  name,
  uriPathPrefix: name,
  regions: ['eu-central-1'],
  adopted: false,
});
const disable: CommandBody = { type: 'keystore.disable', name: 'prod' };

t.test('a repeated request is answered as it was, and not executed', async (t) => {
  const cluster = new FoundedCluster();
  const { state } = cluster;
  const id = requestIdAt(startMs, 0xabc);
  t.strictSame(cluster.apply(createStore('prod'), { requestId: id }), { ok: true, revision: 2 });
  const disabled = requestIdAt(startMs, 0xabd);
  t.strictSame(cluster.apply(disable, { requestId: disabled }), { ok: true, revision: 3 });
  cluster.done({ type: 'keystore.enable', name: 'prod', revision: 3 });
  const hash = state.hash();
  t.strictSame(cluster.apply(disable, { requestId: disabled }), { ok: true, revision: 3, repeated: true });
  t.equal(state.keyStore('prod')?.status, 'ENABLED', 'a late repeat undoes nothing');
  t.strictSame(
    cluster.apply(createStore('prod'), { requestId: id, atMs: startMs + 5 * hourMs }),
    { ok: true, revision: 2, repeated: true },
    'whenever it comes',
  );
  t.equal(state.hash(), hash);
  t.equal(state.appliedIndex, 6, 'but it has its place in the log');
});

t.test('a refusal is remembered too', async (t) => {
  const cluster = new FoundedCluster();
  const requestId = requestIdAt(startMs, 0xabc);
  const first = cluster.apply(disable, { requestId });
  t.match(first, { ok: false, error: { code: 'not-found' } });
  cluster.done(createStore('prod'));
  t.strictSame(cluster.apply(disable, { requestId }), { ...first, repeated: true });
  t.equal(cluster.state.keyStore('prod')?.status, 'ENABLED');
});

t.test('a request id is of one change', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(createStore('prod'));
  cluster.done(createStore('test'));
  const requestId = requestIdAt(startMs, 0xabc);
  cluster.done(disable, { requestId });
  t.match(
    cluster.apply({ type: 'keystore.disable', name: 'test' }, { requestId }),
    { ok: false, error: { code: 'conflict', message: /was another change, at index 4/ } },
    'a key store must not be reported as disabled that is not',
  );
  const sealedSecret = { nonce: new Uint8Array(12), ciphertext: new Uint8Array(43), tag: new Uint8Array(16) };
  const credential = (letter: string): CommandBody => ({
    type: 'credential.create',
    keyStore: 'prod',
    accessKeyId: letter.repeat(20),
    sealedSecret,
  });
  const minted = requestIdAt(startMs, 0xabd);
  cluster.done(credential('A'), { requestId: minted });
  t.strictSame(
    cluster.apply(credential('B'), { requestId: minted }),
    { ok: true, revision: 6, repeated: true },
    'what is minted anew with a repeat is no other change',
  );
  t.equal(cluster.state.credential('B'.repeat(20)), null);
  t.equal(cluster.state.credential('A'.repeat(20))?.revision, 6, 'its revision finds the first one');
});

t.test('an id older than the horizon is refused', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(createStore('prod'));
  const horizon = startMs - requestLimits.horizonMs;
  t.match(cluster.apply(disable, { requestId: requestIdAt(horizon - 1), atMs: startMs }), {
    ok: false,
    error: { code: 'expired', message: /is too old: whether it was executed is not known any more/ },
  });
  t.equal(cluster.state.keyStore('prod')?.status, 'ENABLED');
  t.match(cluster.apply(disable, { requestId: requestIdAt(horizon), atMs: startMs }), { ok: true });
});

t.test('one clock that is wrong by years stops nobody', async (t) => {
  const cluster = new FoundedCluster();
  const id = requestIdAt(startMs, 0xabc);
  cluster.done(createStore('prod'), { requestId: id });
  const future = startMs + 80 * 365 * 24 * hourMs;
  // Two days of such commands, so that some of the future are forgotten as well.
  for (const atMs of [future, future + 1, future + 48 * hourMs, future + 49 * hourMs]) {
    cluster.done(createStore(`s${atMs}`), { atMs });
  }
  t.match(cluster.apply(createStore('again'), { requestId: id }), {
    ok: false,
    error: { code: 'expired' },
  });
  t.match(cluster.apply(disable, { atMs: startMs + 1 }), { ok: true }, 'denials least of all');
  t.match(cluster.apply(disable, { requestId: requestIdAt(future + 50 * hourMs), atMs: startMs + 2 }), {
    ok: false,
    error: { code: 'invalid', message: /from the future/ },
  });
});

t.test('a clock that runs a year ahead for weeks stops nobody, then or afterwards', async (t) => {
  const cluster = new FoundedCluster();
  cluster.done(createStore('prod'));
  const yearAhead = startMs + 365 * 24 * hourMs;
  for (let count = 1; count <= 80; count += 1) {
    const sinceMs = count * 5 * hourMs;
    cluster.apply({ type: 'keystore.disable', name: 'none' }, { atMs: yearAhead + sinceMs });
    t.match(cluster.apply(disable, { atMs: startMs + sinceMs }), { ok: true }, `after ${count}`);
  }
  t.match(cluster.apply(disable, { atMs: startMs + 40 * 24 * hourMs }), { ok: true });
});

t.test('an untimed id is refused', async (t) => {
  const cluster = new FoundedCluster();
  const hash = cluster.state.hash();
  t.match(cluster.apply(createStore('prod'), { requestId: '00'.repeat(16) }), {
    ok: false,
    error: { code: 'invalid', message: /12 hexadecimal digits of its time/ },
  });
  t.equal(cluster.state.hash(), hash);
});

/** Snapshot and restore. */
function restored(state: KeyState): KeyState {
  const reader = new SnapshotReader();
  for (const record of snapshotRecords(state)) reader.push(record);
  const finished = reader.finish();
  if (!finished.ok) throw new Error(finished.error);
  return finished.value;
}

const requestsOf = (state: KeyState): string[] =>
  [...state.tables().requests.records()].map(({ requestId }) => requestId);

t.test('old ids are forgotten a few at a time, and never execute again', async (t) => {
  const cluster = new FoundedCluster();
  const ids = Array.from({ length: 10 }, (_, place) => requestIdAt(startMs + 1 + place, 0xabc));
  for (const [place, requestId] of ids.entries()) {
    cluster.done(createStore(`s${place}`), { requestId, atMs: startMs + 1 + place });
  }
  t.equal(requestsOf(cluster.state).length, 11);
  const later = startMs + 25 * hourMs;
  cluster.done(createStore('later'), { atMs: later });
  t.strictSame(requestsOf(cluster.state).slice(0, -1), ids.slice(requestLimits.prunesPerCommandMax - 1));
  const disableFirst: CommandBody = { type: 'keystore.disable', name: 's0' };
  for (const state of [cluster.state, restored(cluster.state)]) {
    const index = state.appliedIndex + 1;
    const [first = ''] = ids;
    const command = { ...disableFirst, requestId: first, atMs: startMs, by: '' } as Command;
    t.match(
      state.apply(index, command),
      { ok: false, error: { code: 'expired' } },
      'also with the time of then, and after a restore',
    );
    const last = { ...createStore('s9'), requestId: ids[9] ?? '', atMs: later, by: '' } as Command;
    t.match(state.apply(index + 1, last), { ok: true, repeated: true }, 'one still remembered');
  }
});

t.test('the table is bounded: the oldest go first, and what goes never comes back', async (t) => {
  const cluster = new FoundedCluster();
  const { state } = cluster;
  const total = requestLimits.requestIdsMax + 100;
  const disableNothing: CommandBody = { type: 'keystore.disable', name: 'none' };
  const idOf = (number: number): string => requestIdAt(startMs + number, 1);
  for (let count = 1; count <= total; count += 1) {
    cluster.apply(disableNothing, { requestId: idOf(count), atMs: startMs + count });
  }
  t.equal(state.tables().requests.size, requestLimits.requestIdsMax);
  const hash = state.hash();
  const gone = total - requestLimits.requestIdsMax;
  for (const number of [1, 50, gone]) {
    t.match(
      cluster.apply(disableNothing, { requestId: idOf(number), atMs: startMs + total }),
      { ok: false, error: { code: 'expired' } },
      `${number}`,
    );
  }
  t.match(cluster.apply(disableNothing, { requestId: idOf(gone + 1), atMs: startMs + total }), {
    ok: false,
    error: { code: 'not-found' },
    repeated: true,
  });
  t.equal(state.hash(), hash);
  t.equal(restored(state).hash(), hash);
  const between = requestIdAt(startMs + gone + 1, 2);
  t.match(
    cluster.apply(createStore('new'), { requestId: between, atMs: startMs + total }),
    { ok: true, repeated: undefined },
    'a new id among those remembered',
  );
});

t.test('floors are bounded too, and forgetting one leaves nothing below it open', async (t) => {
  const cluster = new FoundedCluster();
  const { state } = cluster;
  const spanMs = 2 ** 24;
  const firstMs = startMs + spanMs;
  const spans = requestLimits.floorsMax + 20;
  for (let span = 0; span < spans; span += 1) {
    for (let count = 0; count < 2; count += 1) {
      const atMs = firstMs + span * spanMs + count;
      cluster.apply({ type: 'keystore.disable', name: 'none' }, { requestId: requestIdAt(atMs, 1), atMs });
    }
  }
  t.equal(state.tables().requests.floorCount, requestLimits.floorsMax);
  t.equal(restored(state).hash(), state.hash());
  const expired = [];
  for (let span = 0; span < spans; span += 1) {
    const atMs = firstMs + span * spanMs;
    const requestId = requestIdAt(atMs, 1);
    const result = cluster.apply({ type: 'keystore.disable', name: 'none' }, { requestId, atMs });
    if (!result.ok && result.error.code === 'expired') expired.push(span);
    else t.equal(result.repeated, true, `span ${span}`);
  }
  t.ok(expired.length >= requestLimits.floorsMax, `${expired.length} of ${spans}`);
});

t.test('ids of format 1 mean nothing', async (t) => {
  const machine = new KeyStateMachine();
  const command = encodeCommand({
    type: 'keystore.disable',
    name: 'prod',
    requestId: requestIdAt(startMs),
    atMs: startMs,
    by: '',
  });
  t.strictSame(machine.apply(1, command), machine.apply(2, command));
  t.equal(machine.state.tables().requests.size, 0);
});
