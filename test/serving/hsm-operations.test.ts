import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import type { PreparedToken, SealedBytes } from '../../src/keystate/types.js';
import type { HsmOperation, HsmReply, HsmReplyValues, WitnessJson } from '../../src/ops/state-link.js';
import { HsmOperations } from '../../src/serving/hsm-operations.js';
import { SecretStore } from '../../src/serving/secret-store.js';
import { testKeyLabel, wrappingKeyLabel } from '../../src/serving/token-preparation.js';
import { TokenSecrets } from '../../src/serving/token-secrets.js';
import { History } from '../support/scripted-replica.js';
import { SeededRandom } from '../support/seeded-random.js';
import { SoftwareToken } from '../support/software-token.js';
import { VirtualTime } from '../support/virtual-time.js';

/** A serving process as far as administration sees it. */
class Process {
  readonly token: SoftwareToken;
  readonly history: History;
  readonly time = new VirtualTime();
  readonly secrets: SecretStore;
  readonly tokenSecrets: TokenSecrets;
  readonly #operations: HsmOperations;
  #id = 0;

  constructor(
    token = new SoftwareToken(),
    history = new History(),
    seed = 1,
    others: readonly SoftwareToken[] = [],
  ) {
    this.token = token;
    this.history = history;
    const random = new SeededRandom(seed);
    this.secrets = new SecretStore(random);
    const common = {
      tokens: [token, ...others],
      secrets: this.secrets,
      state: () => history.state,
      clock: this.time,
      logger: silentLogger,
    };
    this.#operations = new HsmOperations({ ...common, random, timers: this.time });
    this.tokenSecrets = new TokenSecrets({ ...common, timers: this.time, onChange: () => {} });
  }

  async ask(payload: HsmOperation | object): Promise<HsmReply> {
    this.#id += 1;
    const reply = await this.#operations.answer({ id: this.#id, ...payload });
    if (reply?.id !== this.#id) throw new Error('answered under another id');
    return reply;
  }

  /** The value of an operation that must succeed. */
  async do<Op extends HsmOperation['op']>(
    operation: Extract<HsmOperation, { readonly op: Op }>,
  ): Promise<HsmReplyValues[Op]> {
    const reply = await this.ask(operation);
    if (!reply.ok) throw new Error(reply.message);
    return reply.value as HsmReplyValues[Op];
  }

  /** What the replica makes of a prepared token. */
  commit(prepared: HsmReplyValues['prepare-token']): void {
    const { serial, label, testKey, wrappingKey, wrappedSecret } = prepared;
    if (wrappedSecret === null) throw new Error('nothing to commit');
    const key = (k: { objectId: string; witness: WitnessJson }) => ({
      objectId: k.objectId,
      witness: sealed(k.witness),
    });
    const token: PreparedToken = {
      serial,
      label,
      testKey: key(testKey),
      wrappingKey: key(wrappingKey),
      wrappedSecret: sealed(wrappedSecret),
      secretCheckValue: wrappedSecret.checkValue,
    };
    this.history.apply({ type: 'token.prepare', token });
  }

  async unwrap(): Promise<void> {
    this.tokenSecrets.update();
    while (!this.secrets.available && this.tokenSecrets.fault === null) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const sealed = ({ iv, ciphertext, tag }: WitnessJson): SealedBytes => ({
  nonce: bytes(iv),
  ciphertext: bytes(ciphertext),
  tag: bytes(tag),
});

const prepare = { op: 'prepare-token', place: 0 } as const;

t.test('prepare makes both keys and wraps a new cluster secret, of which nothing is in force', async (t) => {
  const process = new Process();
  const prepared = await process.do(prepare);
  t.strictSame(
    process.token.objects.map(({ label, objectId }) => [label, objectId]),
    [
      [testKeyLabel, prepared.testKey.objectId],
      [wrappingKeyLabel, prepared.wrappingKey.objectId],
    ],
  );
  t.match(prepared.testKey.objectId, /^[0-9a-f]{32}$/);
  t.equal(prepared.created.length, 2);
  t.match(prepared.wrappedSecret?.checkValue, /^[0-9a-f]{64}$/);
  t.notOk(process.secrets.available, 'until key state says so');
  process.commit(prepared);
  await process.unwrap();
  t.ok(process.secrets.available);
  t.equal(process.token.testKey?.objectId, prepared.testKey.objectId);
});

t.test(
  'prepare waits for the first attempt to reach the token, but not for one that does not end',
  async (t) => {
    for (const [how, expected] of [
      ['reached', { ok: true }],
      ['hung', { ok: false, code: 'token-unavailable', message: /not reached yet/ }],
    ] as const) {
      const token = new SoftwareToken();
      const { current } = token;
      token.current = { ...current, serial: null, label: null, reason: 'not reached yet' };
      let reached = (): void => {};
      token.firstAttempt = new Promise((resolve) => {
        reached = resolve;
      });
      const process = new Process(token);
      const answer = process.ask(prepare);
      const first = await Promise.race([answer, new Promise((resolve) => setImmediate(resolve, 'it waits'))]);
      t.equal(first, 'it waits');
      if (how === 'reached') {
        token.current = current;
        reached();
      } else process.time.advance(15_000);
      t.match(await answer, expected, how);
    }
  },
);

t.test('asked again it finds what it made, and says so once key state knows', async (t) => {
  const process = new Process();
  const first = await process.do(prepare);
  const second = await process.do(prepare);
  t.equal(second.testKey.objectId, first.testKey.objectId);
  t.equal(second.wrappingKey.objectId, first.wrappingKey.objectId);
  t.strictSame(second.created, []);
  process.commit(second);
  const third = await process.do(prepare);
  t.equal(third.wrappedSecret, null);
  t.strictSame(third.testKey, second.testKey);
  t.equal(process.token.objects.length, 2);
});

t.test('another process unwraps the same secret from the token', async (t) => {
  const one = new Process();
  one.commit(await one.do(prepare));
  await one.unwrap();
  const { sealed: sealedSecret, ...minted } = await one.do({ op: 'mint-credential', keyStore: 'ks' });
  const two = new Process(one.token, one.history, 2);
  await two.unwrap();
  const credential = {
    accessKeyId: minted.accessKeyId,
    keyStore: 'ks',
    sealedSecret: {
      nonce: bytes(sealedSecret.nonce),
      ciphertext: bytes(sealedSecret.ciphertext),
      tag: bytes(sealedSecret.tag),
    },
    createdAtMs: 0,
    revision: 1,
  };
  t.equal(Buffer.from(two.secrets.secretOf(credential) ?? []).toString(), minted.secretAccessKey);
  t.equal(two.secrets.secretOf({ ...credential, keyStore: 'another' }), null, 'and for no other key store');
});

t.test('a second token gets the same secret, from a process that has it and from no other', async (t) => {
  const one = new Process();
  one.commit(await one.do(prepare));
  const second = new SoftwareToken();
  second.current = { ...second.current, serial: 'second', label: 'second' };
  const without = new Process(second, one.history, 2);
  t.match(await without.ask(prepare), { ok: false, code: 'token-unavailable', message: /cluster secret/ });
  t.strictSame(second.objects, [], 'nothing was made');

  await one.unwrap();
  const withIt = new Process(second, one.history, 3);
  one.secrets.withClusterSecret((secret) => withIt.secrets.install(Uint8Array.from(secret)));
  const prepared = await withIt.do(prepare);
  t.equal(prepared.wrappedSecret?.checkValue, [...one.history.state.preparedTokens()][0]?.secretCheckValue);
  withIt.commit(prepared);
});

t.test(
  'a token that lost its keys is prepared anew; a new secret only while nothing is sealed',
  async (t) => {
    const process = new Process();
    process.commit(await process.do(prepare));
    process.token.objects.length = 0;
    const renewed = await process.do(prepare);
    t.equal(renewed.created.length, 2);
    process.commit(renewed);
    await process.unwrap();

    process.history.keyStore('ks');
    const { accessKeyId, sealed: secret } = await process.do({ op: 'mint-credential', keyStore: 'ks' });
    process.history.apply({
      type: 'credential.create',
      keyStore: 'ks',
      accessKeyId,
      sealedSecret: sealed({ ...secret, iv: secret.nonce }),
    });
    process.token.objects.length = 0;
    const restarted = new Process(process.token, process.history, 2);
    t.match(await restarted.ask(prepare), { ok: false, code: 'token-unavailable' });
    const again = await process.do(prepare);
    t.equal(
      again.wrappedSecret?.checkValue,
      renewed.wrappedSecret?.checkValue,
      'who has the secret wraps it again',
    );
  },
);

t.test('the secret of a token that was prepared anew replaces the one in memory', async (t) => {
  const process = new Process();
  process.commit(await process.do(prepare));
  await process.unwrap();
  const before = process.secrets.checkValue();
  const other = new Process(process.token, process.history, 9);
  process.token.objects.length = 0;
  process.token.crypto.keys.clear();
  other.commit(await other.do(prepare));
  process.tokenSecrets.update();
  while (Buffer.from(process.secrets.checkValue() ?? []).equals(Buffer.from(before ?? []))) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  const checkValue = process.history.state.preparedToken('0123456789abcdef')?.secretCheckValue;
  t.equal(Buffer.from(process.secrets.checkValue() ?? []).toString('hex'), checkValue);
});

t.test('a secret that cannot be unwrapped is tried again, later and later', async (t) => {
  const process = new Process();
  process.commit(await process.do(prepare));
  process.token.crypto.failure = { kind: 'token-unavailable', rv: null, functionName: null };
  const before = process.token.crypto.decrypts.length;
  await process.unwrap();
  t.match(process.tokenSecrets.fault, /token-unavailable/);
  t.equal(process.token.crypto.decrypts.length, before + 1);
  process.time.advance(249);
  t.equal(process.token.crypto.decrypts.length, before + 1);
  process.token.crypto.failure = null;
  process.time.advance(1);
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(process.secrets.available);
  t.equal(process.tokenSecrets.fault, null);
  t.equal(process.time.pending, 0);
});

t.test('objects by the names of ours that are unsuitable are refused, and named', async (t) => {
  const rows: readonly (readonly [object, string, RegExp])[] = [
    [{ keyBits: 128 }, 'object-unsuitable', /AES-128/],
    [{ keyBits: null }, 'object-unsuitable', /does not say how long/],
    [{ keyType: 'CKK_DES3' }, 'object-unsuitable', /CKK_DES3/],
    [{ usage: ['ENCRYPT'] }, 'object-unsuitable', /may not both/],
    [{ objectId: '' }, 'object-unsuitable', /no CKA_ID/],
  ];
  for (const [changes, code, message] of rows) {
    const process = new Process();
    process.token.add(process.token.describe({ label: testKeyLabel, ...changes }));
    t.match(await process.ask(prepare), { ok: false, code, message });
  }
  const two = new Process();
  for (const objectId of ['01', '02']) {
    two.token.add(two.token.describe({ label: testKeyLabel, objectId }));
  }
  t.match(await two.ask(prepare), { ok: false, code: 'object-ambiguous' });

  const taken = new Process();
  taken.history.keyStore('ks');
  taken.history.apply({
    type: 'key.create',
    keyStore: 'ks',
    externalKeyId: 'k',
    objectId: '0f',
    witness: null,
    checkValue: null,
    usage: [],
    description: '',
  });
  taken.token.add(taken.token.describe({ label: testKeyLabel, objectId: '0f' }));
  t.match(await taken.ask(prepare), {
    ok: false,
    code: 'object-unsuitable',
    message: /is key "k" of key store "ks"/,
  });
});

t.test('generate: a random 16-byte CKA_ID, and a witness', async (t) => {
  const process = new Process();
  const { object, witness } = await process.do({ op: 'generate-key', label: 'mine', singleToken: null });
  t.match(object.objectId, /^[0-9a-f]{32}$/);
  t.equal(object.label, 'mine');
  t.match(witness.iv, /^[0-9a-f]{24}$/);
  t.match(witness.tag, /^[0-9a-f]{32}$/);
  const other = await process.do({ op: 'generate-key', label: 'mine', singleToken: null });
  t.not(other.object.objectId, object.objectId);
});

t.test('generate: a key whose witness fails stays, and the message says which', async (t) => {
  const process = new Process();
  process.token.crypto.failure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: 'C_Encrypt' };
  t.match(await process.ask({ op: 'generate-key', label: 'mine', singleToken: null }), {
    ok: false,
    code: 'failed',
    message:
      /the key was made \(CKA_ID [0-9a-f]{32}, label mine\) and stays; .*CKR_DEVICE_ERROR from C_Encrypt/,
  });
});

t.test('inspect: by id or label; a witness only where it can be made', async (t) => {
  const process = new Process();
  const { token } = process;
  token.add(token.describe({ objectId: 'aa', label: 'full' }));
  token.add(token.describe({ objectId: 'bb', label: 'partial', usage: ['ENCRYPT'] }));
  token.add(token.describe({ objectId: 'cc', label: 'short', keyBits: 128 }));
  token.add(token.describe({ objectId: 'dd', label: 'twin-1' }));
  token.add(token.describe({ objectId: 'dd', label: 'twin-2' }));
  const inspect = (objectId: string | null, label: string | null) =>
    process.ask({ op: 'inspect-key', objectId, label });
  t.match(await inspect('aa', null), { ok: true, value: { object: { label: 'full' }, witness: {} } });
  t.match(await inspect(null, 'partial'), { ok: true, value: { object: { objectId: 'bb' }, witness: null } });
  t.match(await inspect('cc', null), { ok: false, code: 'object-unsuitable', message: /AES-128/ });
  t.match(await inspect('ee', null), { ok: false, code: 'object-not-found' });
  t.match(await inspect(null, 'twin-1'), { ok: false, code: 'object-ambiguous' }, 'its CKA_ID names two');
});

t.test('X-A2: a minted credential, sealed; without the cluster secret none', async (t) => {
  const process = new Process();
  const mint = { op: 'mint-credential', keyStore: 'ks' } as const;
  t.match(await process.ask(mint), { ok: false, code: 'not-prepared', message: /xksctl hsm prepare/ });
  process.commit(await process.do(prepare));
  t.match(await process.ask(mint), { ok: false, code: 'token-unavailable', message: /0123456789abcdef/ });
  await process.unwrap();
  const minted = await process.do(mint);
  t.match(minted.accessKeyId, /^[A-Z2-7]{20,30}$/);
  t.match(minted.secretAccessKey, /^[A-Za-z0-9/+=]{43,64}$/);
});

t.test('list: an unavailable token has a status and nothing to show', async (t) => {
  const process = new Process();
  process.token.add(process.token.describe({}));
  t.match(await process.ask({ op: 'list-objects' }), {
    ok: true,
    value: { tokens: [{ token: { state: 'ACTIVE' }, objects: [{ objectId: '01' }] }] },
  });
  process.token.failure = {
    code: 'token-unavailable',
    rv: null,
    functionName: null,
    message: 'the PIN was refused',
  };
  t.match(await process.ask({ op: 'list-objects' }), {
    ok: true,
    value: { tokens: [{ objects: null, unlisted: 'the PIN was refused' }] },
  });
  t.match(await process.ask({ op: 'generate-key', label: 'x', singleToken: null }), {
    ok: false,
    code: 'token-unavailable',
    message: 'the PIN was refused',
  });
});

t.test('retry-login asks the token', async (t) => {
  const process = new Process();
  await process.do({ op: 'retry-login', forgive: true });
  await process.do({ op: 'retry-login', forgive: false });
  t.strictSame(process.token.logins, ['forgiving', 'unforgiving']);
  process.token.change({ state: 'UNAVAILABLE', reason: 'the PIN is wrong (C_Login: CKR_PIN_INCORRECT)' });
  t.match(await process.ask({ op: 'retry-login', forgive: true }), {
    ok: false,
    code: 'token-unavailable',
    message: /the PIN is wrong/,
  });
});

t.test('what is malformed is answered as far as it can be', async (t) => {
  const process = new Process();
  for (const payload of [
    {},
    { op: 'unheard-of' },
    { op: 'generate-key' },
    { op: 'inspect-key', objectId: 1, label: null },
    { op: 'mint-credential' },
    { op: 'retry-login' },
  ]) {
    t.match(await process.ask(payload), { ok: false, code: 'failed', message: /malformed/ });
  }
});

/** Two tokens, `a` and `b`. */
function twoTokens(): { readonly process: Process; readonly a: SoftwareToken; readonly b: SoftwareToken } {
  const [a, b] = [new SoftwareToken(), new SoftwareToken()];
  a.change({ serial: 'a', label: 'first' });
  b.change({ serial: 'b', label: 'second' });
  return { process: new Process(a, new History(), 1, [b]), a, b };
}

t.test('several tokens: each is prepared, the second with the secret of the first', async (t) => {
  const { process, a, b } = twoTokens();
  const first = await process.do(prepare);
  process.commit(first);
  const second = await process.do({ op: 'prepare-token', place: 1 });
  t.equal(second.serial, 'b');
  t.equal(second.wrappedSecret?.checkValue, first.wrappedSecret?.checkValue, 'unwrapped by the first');
  t.not(second.testKey.objectId, first.testKey.objectId);
  process.commit(second);
  t.match(await process.ask({ op: 'prepare-token', place: 2 }), { ok: false, code: 'no-such-token' });
  process.tokenSecrets.update();
  t.strictSame([a.testKey?.objectId, b.testKey?.objectId], [first.testKey.objectId, second.testKey.objectId]);

  const restarted = new Process(a, process.history, 5, [b]);
  a.change({ sessions: 0 });
  a.crypto.failure = { kind: 'token-unavailable', rv: null, functionName: null };
  await restarted.unwrap();
  t.ok(restarted.secrets.available, 'any prepared token unwraps it');
});

t.test('several tokens: one that cannot unwrap the secret leaves it to the next', async (t) => {
  const { process, a, b } = twoTokens();
  process.commit(await process.do(prepare));
  process.commit(await process.do({ op: 'prepare-token', place: 1 }));
  a.crypto.failure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: 'C_Decrypt' };
  const asked = b.crypto.decrypts.length;
  await process.unwrap();
  t.match(process.tokenSecrets.fault, /first .*CKR_DEVICE_ERROR/);
  process.time.advance(250);
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(process.secrets.available);
  t.equal(process.tokenSecrets.fault, null);
  t.equal(b.crypto.decrypts.length, asked + 1);
  process.tokenSecrets.update();
  t.equal(process.time.pending, 0, 'once is enough');
});

t.test('several tokens: a fault names its token, and the others are listed all the same', async (t) => {
  const { process, a } = twoTokens();
  a.failure = { code: 'token-unavailable', rv: null, functionName: null, message: 'the PIN was refused' };
  t.match(await process.ask(prepare), { ok: false, message: 'first (serial a): the PIN was refused' });
  t.match(await process.do({ op: 'list-objects' }), {
    tokens: [
      { token: { serial: 'a' }, objects: null, unlisted: 'the PIN was refused' },
      { token: { serial: 'b' }, objects: [], unlisted: null },
    ],
  });
  a.failure = { code: 'failed', rv: null, functionName: null, message: 'C_FindObjects: CKR_DEVICE_ERROR' };
  t.match(await process.do({ op: 'list-objects' }), { tokens: [{ unlisted: /CKR_DEVICE_ERROR/ }, {}] });
});

t.test('several tokens: a new key wants to be told which of them', async (t) => {
  const { process, a, b } = twoTokens();
  const generate = (singleToken: string | null) =>
    process.ask({ op: 'generate-key', label: 'mine', singleToken });
  t.match(await generate(null), { ok: false, message: /2 tokens .*xksctl key add.*--single-token/ });
  t.match(await generate('third'), { ok: false, message: /no token .*"third".*first \(serial a\)/ });
  t.match(await generate('b'), { ok: true });
  t.match(await generate('first'), { ok: true });
  t.strictSame([a.objects.length, b.objects.length], [1, 1]);
  b.change({ label: 'first' });
  t.match(await generate('first'), { ok: false, message: /more than one token/ });
});

t.test('several tokens: inspect says where a key is, and where it is another', async (t) => {
  const { process, a, b } = twoTokens();
  const put = (token: SoftwareToken, bytes: Uint8Array, changes: Parameters<typeof token.describe>[0]) => {
    const object = token.describe({ objectId: 'aa', label: 'mine', ...changes });
    token.add(object);
    token.crypto.add(object.objectId, bytes);
  };
  const inspect = (objectId: string | null, label: string | null = null) =>
    process.ask({ op: 'inspect-key', objectId, label });
  const [key, stranger] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];

  put(b, key, {});
  t.match(await inspect('aa'), {
    value: {
      tokens: [
        { token: 'first (serial a)', holds: 'no' },
        { token: 'second (serial b)', holds: 'yes' },
      ],
    },
  });
  put(a, key, { label: 'another label', usage: ['ENCRYPT', 'DECRYPT', 'WRAP'], extractable: true });
  const both = { tokens: [{ holds: 'yes' }, { holds: 'yes' }] };
  t.match(await inspect('aa'), {
    value: { ...both, object: { usage: ['ENCRYPT', 'DECRYPT'], extractable: true }, witness: {} },
  });
  t.match(await inspect(null, 'mine'), { value: both }, 'by the label that one of them knows');

  a.crypto.add('aa', stranger);
  t.match(await inspect('aa'), { value: { tokens: [{ holds: 'yes' }, { holds: 'another' }] } });

  b.crypto.failure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: 'C_Decrypt' };
  t.match(await inspect('aa'), {
    value: { tokens: [{ holds: 'yes' }, { holds: 'unknown', reason: /CKR_DEVICE_ERROR/ }] },
  });
  b.crypto.failure = null;
  a.failure = { code: 'token-unavailable', rv: null, functionName: null, message: 'not logged in' };
  t.match(await inspect('aa'), {
    value: { tokens: [{ holds: 'unknown', reason: 'not logged in' }, { holds: 'yes' }] },
  });
  t.match(await inspect('ee'), { ok: false, code: 'token-unavailable' }, 'it may be where nobody can look');
  a.failure = null;
  t.match(await inspect('ee'), { ok: false, code: 'object-not-found' });

  put(a, key, { objectId: 'bb', label: 'same name' });
  put(b, key, { objectId: 'cc', label: 'same name' });
  t.match(await inspect(null, 'same name'), { ok: false, code: 'object-ambiguous', message: /disagree/ });
});

t.test('several tokens: keys without a witness are told apart by their check values', async (t) => {
  const { process, a, b } = twoTokens();
  const put = (token: SoftwareToken, objectId: string, checkValue: string | null): void =>
    token.add(token.describe({ objectId, usage: ['ENCRYPT'], checkValue }));
  put(a, '01', 'abc');
  put(b, '01', 'abc');
  put(a, '02', 'abc');
  put(b, '02', 'def');
  put(a, '03', 'abc');
  put(b, '03', null);
  for (const [objectId, holds] of [
    ['01', 'yes'],
    ['02', 'another'],
    ['03', 'unknown'],
  ] as const) {
    t.match(await process.ask({ op: 'inspect-key', objectId, label: null }), {
      value: { witness: null, tokens: [{ holds: 'yes' }, { holds }] },
    });
  }
});

t.test('several tokens: a login is tried on each, and whoever is away is named', async (t) => {
  const { process, a, b } = twoTokens();
  t.match(await process.do({ op: 'retry-login', forgive: false }), {
    tokens: [{ serial: 'a' }, { serial: 'b' }],
  });
  b.change({ state: 'UNAVAILABLE', reason: 'the PIN is wrong' });
  t.match(await process.do({ op: 'retry-login', forgive: true }), {
    tokens: [
      { serial: 'a', state: 'ACTIVE' },
      { serial: 'b', state: 'UNAVAILABLE', reason: 'the PIN is wrong' },
    ],
  });
  a.change({ state: 'UNAVAILABLE', reason: 'no such token' });
  t.match(await process.ask({ op: 'retry-login', forgive: true }), {
    ok: false,
    code: 'token-unavailable',
    message: 'first: no such token; second: the PIN is wrong',
  });
  t.strictSame([a.logins.length, b.logins.length], [3, 3]);
});

t.test('several tokens: one that hangs does not keep the answers of the others', async (t) => {
  const { process, a, b } = twoTokens();
  b.add(b.describe({ objectId: 'bb', label: 'key' }));
  a.hangs = true;
  /** Before the replica gives up, at 20 s. */
  const withinTime = async <T>(answer: Promise<T>): Promise<T> => {
    let isAnswered = false;
    void answer.finally(() => {
      isAnswered = true;
    });
    for (let seconds = 0; seconds < 19 && !isAnswered; seconds++) {
      process.time.advance(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    t.ok(isAnswered);
    return answer;
  };
  const silent = /the token does not answer: nothing for \d+ s/;
  t.match(await withinTime(process.do({ op: 'list-objects' })), {
    tokens: [
      { token: { serial: 'a' }, objects: null, unlisted: silent },
      { token: { serial: 'b' }, objects: [{ objectId: 'bb' }], unlisted: null },
    ],
  });
  t.match(await withinTime(process.do({ op: 'inspect-key', objectId: null, label: 'key' })), {
    object: { objectId: 'bb' },
    tokens: [
      { token: 'first (serial a)', holds: 'unknown', reason: silent },
      { token: 'second (serial b)', holds: 'yes' },
    ],
  });
  t.match(await withinTime(process.do({ op: 'retry-login', forgive: true })), {
    tokens: [
      { serial: 'a', state: 'UNAVAILABLE', reason: silent },
      { serial: 'b', state: 'ACTIVE' },
    ],
  });
  t.match(await withinTime(process.ask(prepare)), { ok: false, message: silent });
  t.equal(process.time.pending, 0, 'who was answered waits no longer');
});

t.test('several tokens: where a registered key is, by the witness that key state holds', async (t) => {
  const { process, a, b } = twoTokens();
  const [key, stranger] = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
  a.add(a.describe({ objectId: 'aa' }));
  a.crypto.add('aa', key);
  const inspected = await process.do({ op: 'inspect-key', objectId: 'aa', label: null });
  const locate = () =>
    process.do({ op: 'locate-key', objectId: 'aa', witness: inspected.witness, checkValue: null });
  const first = { token: 'first (serial a)', holds: 'yes', reason: null };
  t.strictSame(await locate(), {
    tokens: [first, { token: 'second (serial b)', holds: 'no', reason: null }],
  });
  b.add(b.describe({ objectId: 'aa' }));
  b.crypto.add('aa', stranger);
  t.match(await locate(), { tokens: [first, { holds: 'another' }] });
  b.crypto.add('aa', key);
  t.match(await locate(), { tokens: [first, { holds: 'yes' }] });
  b.failure = { code: 'token-unavailable', rv: null, functionName: null, message: 'not logged in' };
  t.match(await locate(), { tokens: [first, { holds: 'unknown', reason: 'not logged in' }] });
  for (const witness of [{}, { iv: '0', ciphertext: '', tag: '' }, 'x']) {
    const asked = await process.ask({ op: 'locate-key', objectId: 'aa', witness, checkValue: null });
    t.match(asked, { ok: false, message: /malformed/ });
  }
});

t.test('several tokens: each is probed; one is accepted, by its serial or label', async (t) => {
  const { process, a, b } = twoTokens();
  const probe = {
    stated: 'auto',
    pinned: 'takes IVs',
    found: 'makes IVs',
    verdict: 'differs',
    reason: 'it differs',
    cases: [{ what: 'a wrong tag', answer: 'CKR_GENERAL_ERROR' }],
  } as const;
  a.probeResult = { ok: true, value: probe };
  t.strictSame((await process.do({ op: 'probe-tokens', accept: null })).tokens, [
    { token: a.status(), ...probe },
    {
      token: b.status(),
      stated: '',
      pinned: null,
      found: null,
      verdict: 'unknown',
      reason: 'it is not logged in',
      cases: [],
    },
  ]);
  t.match(await process.do({ op: 'probe-tokens', accept: 'first' }), {
    tokens: [{ token: { serial: 'a' } }],
  });
  t.strictSame([a.probes, b.probes], [[false, true], [false]]);
  const unknown = await process.ask({ op: 'probe-tokens', accept: 'third' });
  t.match(unknown, { ok: false, message: /no token has the serial or label "third"; there are first/ });
  t.match(await process.ask({ op: 'probe-tokens' }), { ok: false, message: /malformed/ });
});

t.test('several tokens: each is tested', async (t) => {
  const { process, a, b } = twoTokens();
  b.canaryResult = 'failed';
  t.match(await process.do({ op: 'test-tokens' }), {
    tokens: [
      { token: { serial: 'a' }, outcome: 'passed', tookMs: 0 },
      { token: { serial: 'b' }, outcome: 'failed' },
    ],
  });
  t.strictSame([a.canaries, b.canaries], [1, 1]);
});
