import t from 'tap';
import { err } from '../../src/base/result.js';
import { DeadlineGuard } from '../../src/serving/deadline-guard.js';
import { decryptRequest, encryptRequest, PipelineFixture } from '../support/pipeline-fixture.js';
import { VirtualTime } from '../support/virtual-time.js';

/** Something that answers when told to. */
function later<T>(): { readonly promise: Promise<T>; readonly answer: (value: T) => void } {
  let answer: (value: T) => void = () => {};
  const promise = new Promise<T>((resolve) => {
    answer = resolve;
  });
  return { promise, answer };
}

t.test('X-T5: a request whose HSM hangs is answered 503 at its deadline, before KMS gives up', async (t) => {
  const fixture = new PipelineFixture();
  const gate = later<void>();
  fixture.crypto.before = () => gate.promise;
  fixture.time.advance(1_000);
  const answers = [
    fixture.onKey('key', 'encrypt', encryptRequest('secret')),
    fixture.onKey('key', 'encrypt', encryptRequest('secret')),
  ];
  fixture.time.advance(149);
  t.equal(fixture.observations.length, 0, 'not before');
  fixture.time.advance(1);
  for (const { status, json } of await Promise.all(answers)) {
    t.strictSame([status, json['errorName']], [503, 'DependencyTimeoutException']);
  }
  t.equal(fixture.observations[0]?.durationSeconds, 0.15);
  gate.answer();
  fixture.crypto.before = () => {};
  t.equal((await fixture.onKey('key', 'encrypt', encryptRequest('secret'))).status, 200);
});

t.test('a plaintext that comes after the deadline is wiped', async (t) => {
  const fixture = new PipelineFixture();
  const { json } = await fixture.onKey('key', 'encrypt', encryptRequest('secret'));
  const late = later<{ ok: true; value: Uint8Array }>();
  fixture.crypto.decrypt = () => late.promise;
  const answer = fixture.onKey('key', 'decrypt', decryptRequest(json));
  fixture.time.advance(150);
  t.equal((await answer).status, 503);
  const plaintext = Buffer.from('secret');
  late.answer({ ok: true, value: plaintext });
  await late.promise;
  t.ok(plaintext.every((byte) => byte === 0));
});

t.test('the HSM is given the deadline of the request, counted from the last byte of its body', async (t) => {
  const fixture = new PipelineFixture();
  fixture.time.advance(1_000);
  let given = 0;
  fixture.crypto.encrypt = async (_operation: unknown, deadlineMs?: number) => {
    given = deadlineMs ?? 0;
    return err({ kind: 'deadline', rv: null, functionName: null });
  };
  const target = '/tenant/one/kms/xks/v1/keys/key/encrypt';
  await fixture.call({ target, body: encryptRequest('secret'), receivedAtMs: 900 });
  t.equal(given, 1_050);
});

t.test('beyond the bound of requests in flight: 429 at once, and room again afterwards', async (t) => {
  const fixture = new PipelineFixture({ inFlightMax: 2 });
  const gate = later<void>();
  fixture.crypto.before = () => gate.promise;
  const first = [1, 2].map(() => fixture.onKey('key', 'encrypt', encryptRequest('secret')));
  const third = await fixture.onKey('key', 'encrypt', encryptRequest('secret'));
  t.strictSame([third.status, third.json['errorName']], [429, 'ThrottlingException']);
  gate.answer();
  for (const { status } of await Promise.all(first)) t.equal(status, 200);
  t.equal((await fixture.onKey('key', 'encrypt', encryptRequest('secret'))).status, 200);
});

t.test('one timer stands for all that waits', async (t) => {
  const time = new VirtualTime();
  const guard = new DeadlineGuard(time, time);
  const ended: string[] = [];
  const wait = (name: string, deadlineMs: number, work: Promise<string>) => {
    const onEnd = (value: string, late: boolean) => late && ended.push(`${name} ${value} too late`);
    return guard
      .within(work, deadlineMs, () => 'expired', onEnd)
      .then((value) => ended.push(`${name} ${value}`));
  };
  const works = [later<string>(), later<string>(), later<string>()] as const;
  const waits = [
    wait('a', 10, works[0].promise),
    wait('b', 20, works[1].promise),
    wait('c', 30, works[2].promise),
  ];
  t.equal(time.pending, 1);
  works[0].answer('done');
  await waits[0];
  time.advance(25);
  await waits[1];
  t.strictSame(ended, ['a done', 'b expired']);
  time.advance(5);
  await waits[2];
  t.strictSame(ended, ['a done', 'b expired', 'c expired']);
  t.equal(time.pending, 0, 'nothing waits, no timer runs');
  const work = later<string>();
  const last = wait('d', 60, work.promise);
  work.answer('done');
  await last;
  t.equal(time.pending, 1, 'when all were done in time it runs out by itself');
  time.advance(30);
  t.equal(time.pending, 0);
  works[1].answer('done');
  await works[1].promise;
  t.strictSame(ended, ['a done', 'b expired', 'c expired', 'd done', 'b done too late']);
});

t.test('work that ends after its deadline, well or not, takes nobody else out', async (t) => {
  const time = new VirtualTime();
  const guard = new DeadlineGuard(time, time);
  const wait = (deadlineMs: number, work: Promise<string>): Promise<string> =>
    guard.within(
      work,
      deadlineMs,
      () => 'expired',
      () => {},
    );
  const works = [later<string>(), later<string>()] as const;
  let reject: (reason: Error) => void = () => {};
  const rejected = new Promise<string>((_resolve, rejectIt) => {
    reject = rejectIt;
  });
  const early = [wait(10, works[0].promise), wait(10, rejected)];
  const last = wait(30, works[1].promise);
  time.advance(15);
  t.strictSame(await Promise.all(early), ['expired', 'expired']);
  works[0].answer('done');
  reject(new Error('too late'));
  await t.rejects(rejected);
  time.advance(15);
  t.equal(await last, 'expired');
});

t.test('work that rejects in time is waited for no more', async (t) => {
  const time = new VirtualTime();
  const guard = new DeadlineGuard(time, time);
  let expired = 0;
  const rejecting = guard.within(
    Promise.reject(new Error('a bug')),
    10,
    () => {
      expired += 1;
    },
    () => {},
  );
  await t.rejects(rejecting, { message: 'a bug' });
  time.advance(20);
  t.equal(expired, 0);
});
