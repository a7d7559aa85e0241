import { Readable } from 'node:stream';
import t from 'tap';
import { type BodyOutcome, receiveBody } from '../../src/serving/http/body.js';
import { bodyShare, ReceivingBudget } from '../../src/serving/http/receiving-budget.js';
import { testLimits } from '../support/xks-server.js';

/** A body on its way, piece by piece. */
class Arriving {
  readonly outcomes: BodyOutcome[] = [];
  readonly #source = new Readable({ read: () => {} });

  constructor(budget: ReceivingBudget) {
    receiveBody(this.#source, testLimits, budget, (outcome) => this.outcomes.push(outcome));
    // From here on pieces reach the receiver within `push`.
    this.#source.read(0);
  }

  /** Sends each piece in memory of its own; they are what the receiver got. */
  async send(...pieces: readonly string[]): Promise<Uint8Array[]> {
    const sent = pieces.map((piece) => new Uint8Array(Buffer.from(piece)));
    for (const piece of sent) this.#source.push(piece);
    await new Promise((resolve) => setImmediate(resolve));
    return sent;
  }

  async end(): Promise<Uint8Array> {
    this.#source.push(null);
    await new Promise((resolve) => setImmediate(resolve));
    const [outcome] = this.outcomes;
    if (outcome?.kind !== 'complete') throw new Error(`the body is ${outcome?.kind}`);
    return outcome.body;
  }
}

const isWiped = (bytes: Uint8Array | undefined): boolean => bytes?.every((byte) => byte === 0) ?? false;

t.test('a body in one piece is that piece; of one in several nothing is left but a copy', async (t) => {
  const budget = new ReceivingBudget(1_000_000);
  const whole = new Arriving(budget);
  const [piece] = await whole.send('a secret');
  t.equal((await whole.end()).buffer, piece?.buffer, 'not copied');
  const split = new Arriving(budget);
  const [first] = await split.send('a ');
  t.notOk(isWiped(first));
  const [second, third] = await split.send('sec', 'ret');
  t.ok(isWiped(first) && isWiped(second) && isWiped(third), 'wiped as soon as they are copied');
  t.equal(Buffer.from(await split.end()).toString(), 'a secret');
  const none = new Arriving(budget);
  t.equal((await none.end()).byteLength, 0);
});

t.test('the copy grows, leaves nothing behind and never exceeds the largest body', async (t) => {
  const arriving = new Arriving(new ReceivingBudget(1_000_000));
  const letters = 'abcdefgh'.repeat(testLimits.bodyBytesMax / 32);
  for (const part of [letters, letters, letters, letters]) await arriving.send(part);
  const body = await arriving.end();
  t.equal(Buffer.from(body).toString(), letters.repeat(4));
  t.equal(body.buffer.byteLength, testLimits.bodyBytesMax);
});

t.test('pieces are counted: one more than allowed', async (t) => {
  const arriving = new Arriving(new ReceivingBudget(1_000_000));
  await arriving.send(...'x'.repeat(testLimits.bodyPiecesMax));
  t.equal(arriving.outcomes.length, 0);
  const [last] = await arriving.send('x');
  t.strictSame(arriving.outcomes, [{ kind: 'too-many-pieces' }]);
  t.ok(isWiped(last));
});

t.test('when there is no room the body that began first gives way, whoever asks', async (t) => {
  const budget = new ReceivingBudget(3_000);
  const idle = new Arriving(budget);
  const [a, b, c, d] = [1, 2, 3, 4].map(() => new Arriving(budget));
  const [held] = (await a?.send('x'.repeat(1_000))) ?? [];
  await b?.send('x'.repeat(1_000));
  await c?.send('x'.repeat(900));
  t.strictSame(
    [a, b, c].flatMap((each) => each?.outcomes),
    [],
    'all have room',
  );
  await d?.send('x'.repeat(200));
  t.strictSame(a?.outcomes, [{ kind: 'no-room' }]);
  t.ok(isWiped(held));
  await c?.send('x'.repeat(900));
  t.strictSame(b?.outcomes, [{ kind: 'no-room' }], 'a copy counts with all that it has room for');
  await c?.send('x'.repeat(900));
  t.strictSame(c?.outcomes, [{ kind: 'no-room' }], 'the first of all gives way itself');
  t.equal((await d?.end())?.byteLength, 200);
  t.strictSame(idle.outcomes, [], 'who holds nothing has nothing to give');
  const e = new Arriving(budget);
  await e.send('x'.repeat(3_000));
  t.equal((await e.end()).byteLength, 3_000, 'all of the room was given back');
});

t.test('a body that ends with the one that gave way for it takes nothing', async (t) => {
  const budget = new ReceivingBudget(1_000);
  const later = bodyShare(() => {});
  const earlier = bodyShare(() => budget.release(later));
  t.ok(budget.hold(earlier, 900));
  t.notOk(budget.hold(later, 200));
  budget.release(later);
  t.ok(
    budget.hold(
      bodyShare(() => {}),
      1_000,
    ),
    'all of the room is there',
  );
});

t.test('a piece counts with the packet that it keeps alive', async (t) => {
  const budget = new ReceivingBudget(1_000);
  const source = new Readable({ read: () => {} });
  const outcomes: BodyOutcome[] = [];
  receiveBody(source, testLimits, budget, (outcome) => outcomes.push(outcome));
  source.push(new Uint8Array(16_384).subarray(100, 101));
  await new Promise((resolve) => setImmediate(resolve));
  t.strictSame(outcomes, [{ kind: 'no-room' }]);
});
