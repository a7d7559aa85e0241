import t from 'tap';
import { aesObject, FakeHsm } from './fake-hsm.js';
import { readyReport } from './fake-serving-process.js';
import { makeReplica, type ReplicaAtSeams } from './replica-at-seams.js';

const list = { op: 'list-objects' } as const;
const generate = { op: 'generate-key', label: 'xksd/a/b', singleToken: null } as const;

const asked = (replica: ReplicaAtSeams) => replica.hsm.ask<'list-objects'>(list);

const readiness = async (replica: ReplicaAtSeams, isReady: boolean): Promise<void> => {
  while (!replica.publication.links().some(({ report }) => report?.readiness.ready === isReady)) {
    await new Promise(setImmediate);
  }
};

t.test('a reply comes back to its request, in whatever order', async (t) => {
  const replica = await makeReplica(t);
  const held: (() => void)[] = [];
  const serving = await replica.link({
    onHsmRequest: ({ id }) => {
      held.push(() => serving.reply({ id, ok: true, value: { tokens: [] } }));
      return null;
    },
  });
  const first = asked(replica);
  const second = replica.hsm.ask<'generate-key'>(generate);
  await serving.until(() => held.length === 2);
  held[1]?.();
  t.match(await second, {
    ok: false,
    error: { code: 'internal', message: /malformed reply to generate-key/ },
  });
  held[0]?.();
  t.same(await first, { ok: true, value: { tokens: [] } });
});

t.test('a reply through another process’s link belongs to nobody', async (t) => {
  const replica = await makeReplica(t);
  const held: number[] = [];
  const asked = await replica.link({
    slot: 1,
    onHsmRequest: ({ id }) => {
      held.push(id);
      return null;
    },
  });
  const other = await replica.link({ slot: 2 });
  const answer = replica.hsm.ask<'list-objects'>(list);
  await asked.until(() => held.length === 1);
  const id = held[0] ?? 0;
  other.reply({ id, ok: false, code: 'failed', message: 'not its request' });
  other.report(readyReport);
  // What it sent before its report has been read.
  await readiness(replica, true);
  asked.reply({ id, ok: true, value: { tokens: [] } });
  t.same(await answer, { ok: true, value: { tokens: [] } });
});

t.test('a ready process is asked rather than another', async (t) => {
  const replica = await makeReplica(t);
  const ready = new FakeHsm();
  const unready = new FakeHsm();
  await replica.link({ slot: 1, onHsmRequest: unready.answer });
  (await replica.link({ slot: 2, onHsmRequest: ready.answer })).report(readyReport);
  await readiness(replica, true);
  t.ok((await asked(replica)).ok);
  t.equal(ready.requests.length, 1);
  t.equal(unready.requests.length, 0);
});

t.test('a refusal comes back in the words of the serving process', async (t) => {
  const replica = await makeReplica(t);
  await replica.link({
    onHsmRequest: ({ id }) => ({ id, ok: false, code: 'token-unavailable', message: 'PIN was refused' }),
  });
  t.same(await asked(replica), {
    ok: false,
    error: { code: 'token-unavailable', message: 'PIN was refused' },
  });
});

t.test('an operation that may be repeated goes to another process when one dies', async (t) => {
  const replica = await makeReplica(t);
  const hsm = new FakeHsm();
  const dying = await replica.link({
    slot: 1,
    onHsmRequest: () => {
      dying.end();
      return null;
    },
  });
  await replica.link({ slot: 2, onHsmRequest: hsm.answer });
  t.ok((await asked(replica)).ok);
  t.equal(hsm.requests.length, 1);
});

t.test('an operation that leaves something behind is not repeated', async (t) => {
  const replica = await makeReplica(t);
  const hsm = new FakeHsm();
  const dying = await replica.link({
    slot: 1,
    onHsmRequest: () => {
      dying.end();
      return null;
    },
  });
  await replica.link({ slot: 2, onHsmRequest: hsm.answer });
  t.match(await replica.hsm.ask<'generate-key'>(generate), { ok: false, error: { code: 'outcome-unknown' } });
  t.equal(hsm.requests.length, 0);
});

t.test('no process: waited for, then said', async (t) => {
  const none = await makeReplica(t, { hsmWaitMs: 1 });
  t.match(await asked(none), { ok: false, error: { code: 'no-serving-process', message: /xksctl status/ } });
  const late = await makeReplica(t, { hsmWaitMs: 60_000 });
  const answer = asked(late);
  await late.link({ onHsmRequest: new FakeHsm().answer });
  t.ok((await answer).ok);
});

t.test('a process that does not answer is not waited for for ever', async (t) => {
  const replica = await makeReplica(t, { hsmTimeoutMs: 10 });
  await replica.link({ onHsmRequest: () => null });
  t.match(await asked(replica), {
    ok: false,
    error: { code: 'timeout', message: /list-objects within 0.01 s/ },
  });
});

t.test('what waits is bounded', async (t) => {
  const replica = await makeReplica(t);
  const serving = await replica.link({ onHsmRequest: () => null });
  const waiting = Array.from({ length: 32 }, () => asked(replica));
  t.match(await asked(replica), { ok: false, error: { code: 'overloaded' } });
  serving.end();
  t.equal((await Promise.all(waiting)).filter(({ ok }) => ok).length, 0);
});

t.test('an object description is checked', async (t) => {
  const replica = await makeReplica(t);
  await replica.link({
    onHsmRequest: ({ id }) => ({
      id,
      ok: true,
      value: { object: aesObject({ objectId: 'not hex' }), witness: null },
    }),
  });
  const inspected = await replica.hsm.ask<'inspect-key'>({ op: 'inspect-key', objectId: 'aa', label: null });
  t.match(inspected, { ok: false, error: { code: 'internal', message: /object\.objectId/ } });
});
