import { randomBytes } from 'node:crypto';
import t from 'tap';
import { TokenFleet } from '../../../src/hsm/fleet/token-fleet.js';
import type {
  DecryptOperation,
  EncryptOperation,
  HsmFailure,
  HsmRoute,
  KeyObject,
} from '../../../src/hsm/types.js';
import { objectId } from '../../../src/hsm/types.js';
import { CapturedLogger } from '../../support/captured-logger.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { SoftwareToken } from '../../support/software-token.js';
import { VirtualTime } from '../../support/virtual-time.js';

const key: KeyObject = { objectId: objectId('0a'), witness: null };
const keyBytes = randomBytes(32);
const deadlineMs = 150;

const encryption: EncryptOperation = {
  key,
  plaintext: Buffer.from('a plaintext'),
  gcmAad: Buffer.from('aad'),
  integrityPrefix: null,
  verify: true,
};

const failure = (kind: HsmFailure['kind'], functionName: string | null = 'C_Encrypt'): HsmFailure => ({
  kind,
  rv: functionName === null ? null : 'CKR_DEVICE_ERROR',
  functionName,
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A fleet of software tokens that all hold one key; time is virtual. */
class Fixture {
  readonly time = new VirtualTime();
  readonly logger = new CapturedLogger();
  readonly tokens: readonly SoftwareToken[];
  readonly fleet: TokenFleet;
  readonly #hung = new Map<SoftwareToken, (() => void)[]>();

  constructor(names: readonly string[] = ['a', 'b']) {
    this.tokens = names.map((name) => {
      const token = new SoftwareToken();
      token.change({ serial: name, label: name });
      token.crypto.add(key.objectId, keyBytes);
      return token;
    });
    this.fleet = new TokenFleet({
      tokens: this.tokens,
      clock: this.time,
      timers: this.time,
      random: new SeededRandom(1),
      logger: this.logger,
    });
  }

  token(name: string): SoftwareToken {
    const token = this.tokens.find((other) => other.status().serial === name);
    if (token === undefined) throw new Error(`no token ${name}`);
    return token;
  }

  /** Calls to the token are answered when `release` is called. */
  hang(name: string): void {
    const token = this.token(name);
    const waiting: (() => void)[] = [];
    this.#hung.set(token, waiting);
    token.crypto.before = () => new Promise((resolve) => waiting.push(resolve));
  }

  async release(name: string): Promise<void> {
    const token = this.token(name);
    token.crypto.before = () => {};
    for (const resolve of this.#hung.get(token) ?? []) resolve();
    await turn();
  }

  async advance(ms: number): Promise<void> {
    this.time.advance(ms);
    await turn();
  }

  encrypt(route?: HsmRoute): ReturnType<TokenFleet['crypto']['encrypt']> {
    return this.fleet.crypto.encrypt(encryption, this.time.monotonicMs() + deadlineMs, route);
  }

  decrypt(operation: DecryptOperation, route?: HsmRoute): ReturnType<TokenFleet['crypto']['decrypt']> {
    return this.fleet.crypto.decrypt(operation, this.time.monotonicMs() + deadlineMs, route);
  }

  /** What a decrypt of a good ciphertext takes. */
  async sealed(): Promise<DecryptOperation> {
    const result = await this.encrypt();
    if (!result.ok) throw new Error(result.error.kind);
    const { ciphertext, iv, tag } = result.value;
    return { key, ciphertext, iv, tag, gcmAad: encryption.gcmAad };
  }

  /** Whom a request reaches first; tries until it is `name`. */
  async routeFirstTo(name: string, run: (route: HsmRoute) => Promise<unknown>): Promise<HsmRoute> {
    for (;;) {
      const route: HsmRoute = { hsm: null, askedFirst: null };
      await run(route);
      if ((route.askedFirst ?? route.hsm) === name) return route;
    }
  }

  get calls(): readonly number[] {
    return this.tokens.map(({ crypto }) => crypto.calls);
  }
}

t.test('one token: what fails in a call is asked of it again', async (t) => {
  const fixture = new Fixture(['a']);
  const { crypto } = fixture.token('a');
  crypto.failure = failure('failed');
  crypto.before = () => {
    if (crypto.calls === 2) crypto.failure = null;
  };
  t.match(await fixture.encrypt(), { ok: true });
  t.equal(crypto.calls, 2);
});

t.test('several share the work, by how much of it each has left', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  for (let index = 0; index < 300; index++) t.match(await fixture.encrypt(), { ok: true });
  t.strictSame(fixture.calls, [100, 100, 100]);
  fixture.hang('a');
  const answers = Array.from({ length: 3 }, () => fixture.encrypt());
  await turn();
  const outstanding = fixture.fleet.stats().map((stats) => stats.outstanding);
  t.strictSame(outstanding, [1, 0, 0]);
  for (let index = 0; index < 100; index++) await fixture.encrypt();
  t.equal(fixture.token('a').crypto.calls, 101, 'who does not answer gets no more while others are idle');
  await fixture.release('a');
  await Promise.all(answers);
});

t.test('a token that fails: the other one answers, and the route says so', async (t) => {
  for (const kind of ['failed', 'token-unavailable', 'deadline'] as const) {
    const fixture = new Fixture();
    fixture.token('a').crypto.failure = failure(kind);
    const route = await fixture.routeFirstTo('a', async (route) => {
      t.match(await fixture.encrypt(route), { ok: true });
    });
    t.strictSame(route, { hsm: 'b', askedFirst: 'a' }, kind);
    t.match(fixture.fleet.stats()[0], { retries: 1, failures: { [kind]: 1 } });
  }
});

t.test('the only token that is well is asked again where it fails in a call', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  fixture.token('b').change({ state: 'UNAVAILABLE' });
  fixture.token('c').change({ state: 'UNAVAILABLE' });
  const { crypto } = fixture.token('a');
  const failsFirst = (times: number): void => {
    const until = crypto.calls + times + 1;
    crypto.failure = failure('failed');
    crypto.before = () => {
      if (crypto.calls === until) crypto.failure = null;
    };
  };
  failsFirst(3);
  const route: HsmRoute = { hsm: null, askedFirst: null };
  t.match(await fixture.encrypt(route), { ok: true });
  t.strictSame(route, { hsm: 'a', askedFirst: null });
  t.strictSame(fixture.calls, [4, 0, 0]);
  fixture.token('b').change({ state: 'ACTIVE' });
  failsFirst(1);
  for (let index = 0; index < 2; index++) t.match(await fixture.encrypt(), { ok: true });
  t.ok(fixture.token('b').crypto.calls > 0, 'another one that is well comes first');

  const ill = new Fixture();
  for (const token of ill.tokens) {
    token.change({ state: 'UNAVAILABLE' });
    token.crypto.failure = failure('failed');
  }
  t.match(await ill.encrypt(), { ok: false, error: { kind: 'failed' } });
  t.strictSame(ill.calls, [1, 1], 'one that is ill is not asked twice');
});

t.test(
  'the only token that is well is asked again three times, and as often as its record allows',
  async (t) => {
    const fixture = new Fixture();
    fixture.token('b').change({ state: 'UNAVAILABLE' });
    const { crypto } = fixture.token('a');
    crypto.failure = failure('failed');
    crypto.before = () => {
      if (crypto.calls === 5) crypto.failure = null;
    };
    t.match(await fixture.encrypt(), { ok: true });
    t.strictSame(fixture.calls, [4, 1], 'then even one that is ill is better');

    const spoilt = new Fixture();
    spoilt.token('b').change({ state: 'UNAVAILABLE' });
    const { crypto: fickle } = spoilt.token('a');
    fickle.before = () => {
      fickle.failure = fickle.calls % 2 === 1 ? failure('failed') : null;
    };
    // Twenty and, as each of them succeeds in the end, a quarter more each.
    for (let index = 0; index < 26; index++) {
      t.match(await spoilt.encrypt(), { ok: true });
      // So seldom that its breaker stays closed.
      await spoilt.advance(1_000);
    }
    t.strictSame(spoilt.calls, [52, 0]);
    t.match(await spoilt.encrypt(), { ok: true });
    t.strictSame(spoilt.calls, [53, 1], 'it fails too often for that');
  },
);

t.test('one retry, and none without 40 ms for it', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  for (const token of fixture.tokens) token.crypto.failure = failure('failed');
  t.match(await fixture.encrypt(), { ok: false, error: { kind: 'failed' } });
  t.equal(
    fixture.calls.reduce((sum, calls) => sum + calls, 0),
    2,
  );
  const late = await fixture.fleet.crypto.encrypt(encryption, fixture.time.monotonicMs() + 39);
  t.match(late, { ok: false, error: { kind: 'failed' } });
  t.equal(
    fixture.calls.reduce((sum, calls) => sum + calls, 0),
    3,
  );
});

t.test('no room: 429 only where none of them has any', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  for (const name of ['a', 'b']) fixture.token(name).crypto.failure = failure('overloaded', null);
  for (let index = 0; index < 20; index++) t.match(await fixture.encrypt(), { ok: true });
  fixture.token('c').crypto.failure = failure('overloaded', null);
  for (let index = 0; index < 20; index++) {
    t.match(await fixture.encrypt(), { ok: false, error: { kind: 'overloaded' } });
  }
  t.notOk(
    fixture.fleet.stats().some(({ breakerIsOpen }) => breakerIsOpen),
    'no fault of theirs',
  );
});

t.test(
  'a key that tokens have lost is served by the one that has it, and is not asked of them again',
  async (t) => {
    const fixture = new Fixture(['a', 'b', 'c']);
    const operation = await fixture.sealed();
    for (const name of ['a', 'b']) fixture.token(name).crypto.keys.clear();
    const before = fixture.calls;
    for (let index = 0; index < 30; index++) t.match(await fixture.decrypt(operation), { ok: true });
    t.strictSame(
      fixture.calls.map((calls, index) => calls - (before[index] ?? 0)),
      [1, 1, 30],
    );
    t.notOk(fixture.fleet.stats().some(({ breakerIsOpen }) => breakerIsOpen));

    fixture.token('c').crypto.keys.clear();
    t.match(await fixture.decrypt(operation), { ok: false, error: { kind: 'key-lost' } });
    fixture.token('a').crypto.add(key.objectId, keyBytes);
    t.match(await fixture.decrypt(operation), { ok: true }, 'where all have lost it, all are asked');
    fixture.token('b').crypto.add(key.objectId, keyBytes);
    fixture.token('b').change({ state: 'UNAVAILABLE' });
    fixture.token('b').change({ state: 'ACTIVE' });
    const callsOfB = fixture.token('b').crypto.calls;
    for (let index = 0; index < 10; index++) await fixture.decrypt(operation);
    t.ok(fixture.token('b').crypto.calls > callsOfB, 'of a token that came back nothing is remembered');
  },
);

t.test('X-X2: bad ciphertext needs two tokens to say so', async (t) => {
  const fixture = new Fixture();
  const good = await fixture.sealed();
  const bad = { ...good, tag: randomBytes(16) };
  const [a, b] = [fixture.token('a').crypto, fixture.token('b').crypto];
  const before = [a.decrypts.length, b.decrypts.length];
  // The software's verdicts bear no call; a real token's do.
  const truthful = { kind: 'bad-ciphertext', rv: 'CKR_GENERAL_ERROR', functionName: 'C_Decrypt' } as const;
  a.failure = truthful;
  b.failure = truthful;
  t.match(await fixture.decrypt(bad), { ok: false, error: { kind: 'bad-ciphertext' } });
  t.strictSame([a.decrypts.length, b.decrypts.length], [(before[0] ?? 0) + 1, (before[1] ?? 0) + 1]);
  for (let index = 0; index < 50; index++) await fixture.decrypt(bad);
  t.notOk(
    fixture.fleet.stats().some(({ breakerIsOpen }) => breakerIsOpen),
    'callers cannot trip it',
  );

  b.failure = null;
  for (let index = 0; index < 10; index++) t.match(await fixture.decrypt(good), { ok: true }, 'a is wrong');
  t.match(fixture.fleet.stats()[0], { hsm: 'a', breakerIsOpen: true }, 'and pays for it');
});

t.test('a doubted ciphertext is held against no token, but where another one opens it', async (t) => {
  const fixture = new Fixture();
  const good = await fixture.sealed();
  const [a, b] = [fixture.token('a').crypto, fixture.token('b').crypto];
  const doubted = { ...failure('failed', 'C_Decrypt'), isDoubted: true } as const;
  a.failure = doubted;
  b.failure = doubted;
  for (let index = 0; index < 50; index++) {
    t.match(await fixture.decrypt(good), { ok: false, error: { kind: 'failed' } });
  }
  t.notOk(
    fixture.fleet.stats().some(({ breakerIsOpen }) => breakerIsOpen),
    'callers cannot trip it',
  );
  b.failure = failure('bad-ciphertext', 'C_Decrypt');
  for (let index = 0; index < 4; index++) {
    t.match(await fixture.decrypt(good), { error: { kind: 'bad-ciphertext' } }, 'b is sure of it');
  }
  b.failure = null;
  for (let index = 0; index < 10; index++) t.match(await fixture.decrypt(good), { ok: true });
  t.match(fixture.fleet.stats()[0], { hsm: 'a', breakerIsOpen: true }, 'a was wrong');
});

t.test(
  'X-X2: without a well second token the first one’s word stands; an ill one makes it 5xx',
  async (t) => {
    const bad = { kind: 'bad-ciphertext', rv: 'CKR_GENERAL_ERROR', functionName: 'C_Decrypt' } as const;
    const rows: readonly (readonly [(fixture: Fixture) => void, HsmFailure['kind']])[] = [
      [(fixture) => fixture.token('b').change({ state: 'UNAVAILABLE' }), 'bad-ciphertext'],
      [(fixture) => fixture.token('b').crypto.keys.clear(), 'bad-ciphertext'],
      [
        (fixture) => {
          fixture.token('b').crypto.failure = failure('failed', 'C_Decrypt');
        },
        'failed',
      ],
    ];
    for (const [spoil, expected] of rows) {
      const fixture = new Fixture();
      const operation = await fixture.sealed();
      fixture.token('a').crypto.failure = bad;
      spoil(fixture);
      await fixture.routeFirstTo('a', async (route) => {
        const result = await fixture.decrypt(operation, route);
        t.match(result, { ok: false, error: { kind: expected } });
        if (route.hsm === null) throw new Error('nobody was asked');
      });
    }
  },
);

t.test('an UNAVAILABLE token is asked when no other is left', async (t) => {
  const fixture = new Fixture();
  fixture.token('a').change({ state: 'UNAVAILABLE', reason: 'its test key is gone' });
  for (let index = 0; index < 10; index++) await fixture.encrypt();
  t.strictSame(fixture.calls, [0, 10]);
  fixture.token('b').change({ state: 'UNAVAILABLE' });
  fixture.token('b').crypto.failure = failure('token-unavailable', null);
  t.match(await fixture.encrypt(), { ok: true });
});

t.test('breaker: out after five failures, back by a canary, told to whoever listens', async (t) => {
  const fixture = new Fixture();
  const a = fixture.token('a');
  let changes = 0;
  fixture.fleet.onChange(() => {
    changes += 1;
  });
  a.crypto.failure = failure('failed');
  for (let index = 0; index < 30; index++) t.match(await fixture.encrypt(), { ok: true });
  t.equal(a.crypto.calls, 5);
  t.equal(changes, 1);
  t.match(fixture.fleet.status(), [
    { serial: 'a', state: 'DEGRADED', reason: /CKR_DEVICE_ERROR from C_Encrypt/ },
    { serial: 'b', state: 'ACTIVE' },
  ]);
  t.match(fixture.logger.last('token out of use'), { hsm: 'a', reason: 'CKR_DEVICE_ERROR from C_Encrypt' });

  a.canaryResult = 'failed';
  await fixture.advance(1_200);
  t.equal(a.canaries, 1);
  await fixture.encrypt();
  t.equal(a.crypto.calls, 5);
  a.canaryResult = 'passed';
  a.crypto.failure = null;
  await fixture.advance(1_500);
  t.equal(a.canaries, 1, 'twice as long');
  await fixture.advance(1_000);
  t.equal(a.canaries, 2);
  t.match(fixture.fleet.status(), [{ state: 'ACTIVE' }, { state: 'ACTIVE' }]);
  for (let index = 0; index < 10; index++) await fixture.encrypt();
  t.equal(a.crypto.calls, 10);
});

t.test('breaker: both out are both asked', async (t) => {
  const fixture = new Fixture();
  for (const token of fixture.tokens) token.crypto.failure = failure('failed');
  for (let index = 0; index < 20; index++) await fixture.encrypt();
  t.ok(fixture.fleet.stats().every(({ breakerIsOpen }) => breakerIsOpen));
  fixture.token('b').crypto.failure = null;
  for (let index = 0; index < 20; index++) t.match(await fixture.encrypt(), { ok: true });
});

t.test('breaker: a token that comes back has its canary at once', async (t) => {
  const fixture = new Fixture();
  const a = fixture.token('a');
  a.crypto.failure = failure('failed');
  for (let index = 0; index < 20; index++) await fixture.encrypt();
  a.change({ state: 'UNAVAILABLE' });
  await fixture.advance(60_000);
  t.equal(a.canaries, 0, 'nothing to check while it is away');
  a.crypto.failure = null;
  a.change({ state: 'DEGRADED', reason: 'the first check is under way' });
  await turn();
  t.equal(a.canaries, 1);
  t.notOk(fixture.fleet.stats()[0]?.breakerIsOpen);
});

t.test('hedge: a slow token’s work goes to another one too, and the first answer counts', async (t) => {
  const fixture = new Fixture();
  for (let index = 0; index < 200; index++) await fixture.encrypt();
  fixture.hang('a');
  const route: HsmRoute = { hsm: null, askedFirst: null };
  let answer = fixture.encrypt(route);
  if (route.hsm !== 'a') {
    await answer;
    answer = fixture.encrypt(route);
  }
  await fixture.advance(9);
  t.equal(fixture.fleet.stats()[1]?.hedges, 0);
  await fixture.advance(6);
  t.match(await answer, { ok: true });
  t.strictSame(route, { hsm: 'b', askedFirst: 'a' });
  t.match(fixture.fleet.stats(), [{ outstanding: 1, retries: 0 }, { hedges: 1 }]);
  const [plain] = fixture.token('b').crypto.encrypts.slice(-1);
  t.equal(Buffer.from(plain?.plaintext ?? []).toString(), 'a plaintext');
  await fixture.release('a');
  t.equal(fixture.fleet.stats()[0]?.outstanding, 0);
  t.notOk(fixture.fleet.stats()[0]?.breakerIsOpen);
});

t.test('hedge: the plaintext that the loser of a decrypt brings is wiped', async (t) => {
  const fixture = new Fixture();
  const operation = await fixture.sealed();
  for (let index = 0; index < 200; index++) await fixture.decrypt(operation);
  fixture.hang('a');
  const late: Uint8Array[] = [];
  const { crypto } = fixture.token('a');
  const decrypt = crypto.decrypt.bind(crypto);
  crypto.decrypt = async (asked) => {
    const result = await decrypt(asked);
    if (result.ok) late.push(result.value);
    return result;
  };
  const route: HsmRoute = { hsm: null, askedFirst: null };
  let answer = fixture.decrypt(operation, route);
  if (route.hsm !== 'a') {
    await answer;
    answer = fixture.decrypt(operation, route);
  }
  await fixture.advance(15);
  t.match(await answer, { ok: true });
  await fixture.release('a');
  t.strictSame(late, [Buffer.alloc(encryption.plaintext.byteLength)]);
});

t.test('hedge: not beyond the budget; a silent token is another matter', async (t) => {
  const fixture = new Fixture();
  for (let index = 0; index < 200; index++) await fixture.encrypt();
  fixture.hang('a');
  fixture.hang('b');
  const many = Array.from({ length: 40 }, () => fixture.encrypt());
  await fixture.advance(50);
  const hedges = fixture.fleet.stats().reduce((sum, stats) => sum + stats.hedges, 0);
  t.equal(hedges, 10);
  await fixture.advance(60);
  const retries = fixture.fleet.stats().reduce((sum, stats) => sum + stats.retries, 0);
  t.equal(retries, 30, 'the rest are asked of the other one when they are 100 ms old');
  await fixture.release('b');
  for (const answer of await Promise.all(many)) t.match(answer, { ok: true });
  await fixture.release('a');
  const hedgesOf = () => fixture.fleet.stats().reduce((sum, stats) => sum + stats.hedges, 0);
  for (let index = 0; index < 400; index++) await fixture.encrypt();
  fixture.hang('a');
  fixture.hang('b');
  const more = Array.from({ length: 40 }, () => fixture.encrypt());
  await fixture.advance(60);
  t.equal(hedgesOf(), 20, 'operations bring hedges');
  await fixture.release('b');
  await fixture.release('a');
  await Promise.all(more);
});

t.test('hedge: none when the deadline is near', async (t) => {
  const fixture = new Fixture();
  for (let index = 0; index < 200; index++) await fixture.encrypt();
  fixture.hang('a');
  fixture.hang('b');
  const answer = fixture.fleet.crypto.encrypt(encryption, fixture.time.monotonicMs() + 45);
  await fixture.advance(44);
  t.ok(fixture.fleet.stats().every(({ hedges, retries }) => hedges + retries === 0));
  await fixture.release('a');
  await fixture.release('b');
  t.match(await answer, { ok: true });
});

t.test('hedge: when one of the two fails the other one’s answer is waited for', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  for (let index = 0; index < 300; index++) await fixture.encrypt();
  for (const name of ['a', 'b', 'c']) fixture.hang(name);
  const answer = fixture.encrypt();
  await fixture.advance(15);
  const asked = fixture.tokens.filter((_, index) => fixture.fleet.stats()[index]?.outstanding === 1);
  t.equal(asked.length, 2);
  const [one, other] = asked.map((token) => token.status().serial ?? '');
  const calls = fixture.calls.reduce((sum, each) => sum + each, 0);
  fixture.token(one ?? '').crypto.failure = failure('failed');
  await fixture.release(one ?? '');
  t.equal(
    fixture.calls.reduce((sum, each) => sum + each, 0),
    calls,
    'nobody else is asked meanwhile',
  );
  await fixture.release(other ?? '');
  t.match(await answer, { ok: true });
});

t.test('breaker: lateness is no fault where there is no room', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  fixture.token('c').crypto.failure = failure('overloaded', null);
  for (const name of ['a', 'b']) {
    const { crypto } = fixture.token(name);
    crypto.failure = failure('deadline', null);
    crypto.before = () => fixture.time.advance(60);
  }
  fixture.token('c').crypto.before = () => {};
  for (let index = 0; index < 30; index++) t.match(await fixture.encrypt(), { ok: false });
  t.ok(fixture.token('c').crypto.calls > 0);
  t.equal(fixture.logger.last('token out of use'), undefined);
  fixture.token('c').change({ state: 'UNAVAILABLE' });
  fixture.time.advance(2_000);
  for (let index = 0; index < 30; index++) await fixture.encrypt();
  t.match(fixture.logger.last('token out of use'), { reason: 'deadline' }, 'elsewhere it is');
});

t.test('hedge: none while there is no room', async (t) => {
  const fixture = new Fixture(['a', 'b', 'c']);
  for (let index = 0; index < 300; index++) await fixture.encrypt();
  fixture.token('c').crypto.failure = failure('overloaded', null);
  for (let index = 0; index < 3; index++) await fixture.encrypt();
  fixture.hang('a');
  fixture.hang('b');
  const answers = [fixture.encrypt(), fixture.encrypt()];
  await fixture.advance(140);
  t.ok(fixture.fleet.stats().every(({ hedges }) => hedges === 0));
  await fixture.release('a');
  await fixture.release('b');
  await Promise.all(answers);
});

t.test('silence: the other token is asked, unless that one has just had no room', async (t) => {
  const fixture = new Fixture();
  for (let index = 0; index < 300; index++) await fixture.encrypt();
  const hangsAfterRefusing = async (refusing: string): Promise<number> => {
    fixture.token(refusing).crypto.failure = failure('overloaded', null);
    for (let index = 0; index < 3; index++) await fixture.encrypt();
    fixture.token(refusing).crypto.failure = null;
    fixture.hang('a');
    const before = fixture.fleet.stats()[0]?.retries ?? 0;
    // One of two is for a.
    const answers = [fixture.encrypt(), fixture.encrypt()];
    await fixture.advance(110);
    const retries = (fixture.fleet.stats()[0]?.retries ?? 0) - before;
    await fixture.release('a');
    await Promise.all(answers);
    await fixture.advance(2_000);
    return retries;
  };
  t.equal(await hangsAfterRefusing('a'), 1, 'that it was full itself is no reason to wait for it');
  t.equal(await hangsAfterRefusing('b'), 0, 'silence is no reason for twice the work there');
});

t.test('beyond recovery: a token that served here; one that never did only when none serves', async (t) => {
  const fixture = new Fixture();
  const [a, b] = [fixture.token('a'), fixture.token('b')];
  t.equal(fixture.fleet.beyondRecovery(), null);
  a.change({ state: 'UNAVAILABLE' });
  a.stuck = 'C_Finalize has not returned';
  t.match(fixture.fleet.beyondRecovery(), /^a: C_Finalize/);

  const young = new SoftwareToken();
  young.change({ serial: 'young', state: 'UNAVAILABLE' });
  const logsIn = (): void => young.change({ state: 'DEGRADED', reason: 'the first check is under way' });
  young.stuck = 'C_Initialize has not returned';
  const fleet = new TokenFleet({
    tokens: [young, b],
    clock: fixture.time,
    timers: fixture.time,
    random: new SeededRandom(1),
    logger: fixture.logger,
  });
  logsIn();
  young.change({ state: 'UNAVAILABLE' });
  t.equal(fleet.beyondRecovery(), null, 'it would hang in another process too');
  b.change({ state: 'UNAVAILABLE' });
  t.match(fleet.beyondRecovery(), /^young: /);
  b.change({ state: 'ACTIVE' });
  t.equal(fleet.beyondRecovery(), null);
  fixture.time.advance(300_000);
  t.match(fleet.beyondRecovery(), /^young: /, 'after five minutes it is tried');
});
