import t from 'tap';
import { KeyState } from '../../src/keystate/key-state.js';
import { type Command, type CommandRefusal, limits, type PreparedToken } from '../../src/keystate/types.js';

type Body<C> = C extends Command ? Omit<C, 'requestId' | 'atMs' | 'by'> : never;
type CommandBody = Body<Command>;

const command = (body: CommandBody): Command =>
  ({ requestId: 'r-1', atMs: 5, by: 'uid=0', ...body }) as Command;

const sealed = (ciphertextBytes = 32) => ({
  nonce: new Uint8Array(12),
  ciphertext: new Uint8Array(ciphertextBytes),
  tag: new Uint8Array(16),
});

const accessKeyId = (letter: string): string => letter.repeat(20);

const createStore = (name: string, uriPathPrefix: string): CommandBody => ({
  type: 'keystore.create',
  name,
  uriPathPrefix,
  regions: ['eu-central-1'],
  adopted: false,
});

const createCredential = (keyStore: string, id: string): CommandBody => ({
  type: 'credential.create',
  keyStore,
  accessKeyId: id,
  sealedSecret: sealed(43),
});

const createKey = (
  keyStore: string,
  externalKeyId: string,
  objectId: string,
): Body<CommandOf<'key.create'>> => ({
  type: 'key.create',
  keyStore,
  externalKeyId,
  objectId,
  witness: sealed(),
  checkValue: null,
  usage: ['ENCRYPT', 'DECRYPT'],
  description: '',
});

type CommandOf<T extends Command['type']> = Extract<Command, { readonly type: T }>;

const token = (
  serial: string,
  testKey: string,
  wrappingKey: string,
  checkValue = 'c0ffee',
): PreparedToken => ({
  serial,
  label: `label ${serial}`,
  testKey: { objectId: testKey, witness: sealed() },
  wrappingKey: { objectId: wrappingKey, witness: sealed() },
  wrappedSecret: sealed(),
  secretCheckValue: checkValue,
});

/** A state with a cluster, a token, two key stores, a credential and a key; indexes 1 to 6. */
function populated() {
  const state = new KeyState();
  const apply = (body: CommandBody) => state.apply(state.appliedIndex + 1, command(body));
  const first: readonly CommandBody[] = [
    { type: 'cluster.init', clusterId: 'c-1', nodeName: 'node-a' },
    { type: 'token.prepare', token: token('s1', 'aa01', 'aa02') },
    createStore('prod', ''),
    createStore('test', 'tenants/test'),
    createCredential('prod', accessKeyId('A')),
    createKey('prod', 'alpha', 'bb01'),
  ];
  for (const body of first) {
    const result = apply(body);
    if (!result.ok) throw new Error(result.error.message);
  }
  return { state, apply };
}

t.test('queries find what commands made', async (t) => {
  const { state } = populated();
  t.equal(state.appliedIndex, 6);
  t.strictSame(state.cluster(), { clusterId: 'c-1', nodeName: 'node-a', createdAtMs: 5 });
  const prod = {
    name: 'prod',
    uriPathPrefix: '',
    regions: ['eu-central-1'],
    adopted: false,
    status: 'ENABLED',
    onIsolation: { rule: 'serve' },
    createdAtMs: 5,
    revision: 3,
  };
  t.strictSame(state.keyStore('prod'), prod);
  t.strictSame(state.keyStoreByPrefix(''), prod);
  t.equal(state.keyStoreByPrefix('tenants/test')?.name, 'test');
  t.equal(state.keyStoreByPrefix('tenants'), null);
  t.match(state.credential(accessKeyId('A')), { keyStore: 'prod', revision: 5 });
  t.equal(state.credential(accessKeyId('B')), null);
  t.match(state.key('prod', 'alpha'), {
    versions: [{ version: 1, objectId: 'bb01', status: 'ENABLED' }],
    currentVersion: 1,
    status: 'ENABLED',
    revision: 6,
  });
  t.equal(state.key('test', 'alpha'), null, 'keys are isolated by key store');
  t.equal(state.objectUser('bb01'), 'key "alpha" of key store "prod"');
  t.equal(state.objectUser('aa01'), 'the test key of token "label s1" (s1)');
  t.equal(state.objectUser('aa02'), 'the wrapping key of token "label s1" (s1)');
  t.equal(state.objectUser('cc'), null);
  t.equal(state.preparedToken('s1')?.label, 'label s1');
  t.equal(state.preparedToken('s2'), null);
  t.strictSame(
    [...state.keyStores()].map(({ name }) => name),
    ['prod', 'test'],
  );
  t.equal([...state.credentials('prod')].length, 1);
  t.equal([...state.credentials('nowhere')].length, 0);
  t.equal([...state.keys('prod')].length, 1);
  t.equal([...state.preparedTokens()].length, 1);
  t.strictSame(state.counts(), { keyStores: 2, credentials: 1, keys: 1 });
});

const refusals: readonly {
  readonly name: string;
  readonly body: CommandBody;
  readonly code: CommandRefusal['code'];
  readonly message: RegExp;
}[] = [
  {
    name: 'a second cluster',
    body: { type: 'cluster.init', clusterId: 'c-2', nodeName: 'n' },
    code: 'already-exists',
    message: /cluster c-1 already/,
  },
  {
    name: 'a key store name twice',
    body: createStore('prod', 'other'),
    code: 'already-exists',
    message: /key store "prod" already: choose another name/,
  },
  {
    name: 'X-U2 a prefix twice',
    body: createStore('other', 'tenants/test'),
    code: 'already-exists',
    message: /"test" has the URI path \/tenants\/test\/kms\/xks\/v1 already/,
  },
  { name: 'X-U2 a bad prefix', body: createStore('o', '/x'), code: 'invalid', message: /URI path prefix/ },
  {
    name: 'X-U2 kms/xks in a prefix',
    body: createStore('o', 'a/kms/xks'),
    code: 'invalid',
    message: /kms\/xks/,
  },
  {
    name: 'a bad name',
    body: createStore('-x', 'x'),
    code: 'invalid',
    message: /key store name has 1 to 64/,
  },
  { name: 'a long name', body: createStore('x'.repeat(65), 'x'), code: 'invalid', message: /1 to 64/ },
  {
    name: 'X-A3 no Region',
    body: { type: 'keystore.create', name: 'o', uriPathPrefix: 'o', regions: [], adopted: false },
    code: 'invalid',
    message: /at least one AWS Region/,
  },
  {
    name: 'X-A3 a Region that is none',
    body: { type: 'keystore.create', name: 'o', uriPathPrefix: 'o', regions: ['Frankfurt'], adopted: false },
    code: 'invalid',
    message: /"Frankfurt" is not the name of an AWS Region/,
  },
  {
    name: 'X-A3 a Region twice',
    body: {
      type: 'keystore.create',
      name: 'o',
      uriPathPrefix: 'o',
      regions: ['us-east-1', 'us-east-1'],
      adopted: false,
    },
    code: 'invalid',
    message: /named twice/,
  },
  {
    name: 'enabling what is not there',
    body: { type: 'keystore.enable', name: 'nowhere', revision: 3 },
    code: 'not-found',
    message: /no key store "nowhere" \(xksctl keystore list\)/,
  },
  {
    name: 'enabling at another revision',
    body: { type: 'keystore.enable', name: 'prod', revision: 2 },
    code: 'conflict',
    message: /"prod" is at revision 3 \(ENABLED\) and this command saw 2: look again/,
  },
  {
    name: 'disabling what is not there',
    body: { type: 'keystore.disable', name: 'nowhere' },
    code: 'not-found',
    message: /no key store/,
  },
  {
    name: 'a credential without key store',
    body: createCredential('nowhere', accessKeyId('B')),
    code: 'not-found',
    message: /no key store/,
  },
  {
    name: 'X-A2 an access key id twice',
    body: createCredential('test', accessKeyId('A')),
    code: 'already-exists',
    message: /given out already, for key store "prod"/,
  },
  {
    name: 'X-A2 a bad access key id',
    body: createCredential('prod', 'AKIA0000000000000000'),
    code: 'invalid',
    message: /20 to 30 characters of A-Z and 2-7/,
  },
  {
    name: 'retiring what is not there',
    body: { type: 'credential.retire', keyStore: 'prod', accessKeyId: accessKeyId('B') },
    code: 'not-found',
    message: /has no credential B+ \(xksctl credential list prod\)/,
  },
  {
    name: "retiring another key store's",
    body: { type: 'credential.retire', keyStore: 'test', accessKeyId: accessKeyId('A') },
    code: 'not-found',
    message: /"test" has no credential/,
  },
  {
    name: 'a key without key store',
    body: createKey('nowhere', 'k', 'cc'),
    code: 'not-found',
    message: /no key store/,
  },
  {
    name: 'X-U3 an external key id twice',
    body: createKey('prod', 'alpha', 'cc'),
    code: 'already-exists',
    message: /has a key "alpha" already/,
  },
  {
    name: 'X-U3 a bad external key id',
    body: createKey('prod', 'a/b', 'cc'),
    code: 'invalid',
    message: /1 to 128/,
  },
  {
    name: "an object that is another key store's",
    body: createKey('test', 'beta', 'bb01'),
    code: 'already-exists',
    message: /object bb01 is key "alpha" of key store "prod" already/,
  },
  {
    name: 'a test key as a key',
    body: createKey('test', 'beta', 'aa01'),
    code: 'already-exists',
    message: /the test key of token "label s1" \(s1\) already/,
  },
  {
    name: 'a wrapping key as a key',
    body: createKey('test', 'beta', 'aa02'),
    code: 'already-exists',
    message: /the wrapping key of token/,
  },
  {
    name: 'an object id that is not',
    body: createKey('prod', 'k', 'AB'),
    code: 'invalid',
    message: /CKA_ID/,
  },
  {
    name: 'X-K1 an unknown usage',
    body: { ...createKey('prod', 'k', 'cc'), usage: ['ENCRYPT', 'SHRED'] },
    code: 'invalid',
    message: /key usage is of ENCRYPT, DECRYPT/,
  },
  {
    name: 'a description of two lines',
    body: { ...createKey('prod', 'k', 'cc'), description: 'a\nb' },
    code: 'invalid',
    message: /without control characters/,
  },
  {
    name: 'a long description',
    body: { ...createKey('prod', 'k', 'cc'), description: 'x'.repeat(257) },
    code: 'invalid',
    message: /at most 256/,
  },
  {
    name: 'a witness of another form',
    body: { ...createKey('prod', 'k', 'cc'), witness: { ...sealed(), tag: new Uint8Array(12) } },
    code: 'invalid',
    message: /tag of the witness is not 16 bytes/,
  },
  {
    name: 'enabling a key at another revision',
    body: { type: 'key.enable', keyStore: 'prod', externalKeyId: 'alpha', revision: 5 },
    code: 'conflict',
    message: /at revision 6 \(ENABLED\).*xksctl key show prod alpha/,
  },
  {
    name: 'disabling a key that is not there',
    body: { type: 'key.disable', keyStore: 'prod', externalKeyId: 'beta' },
    code: 'not-found',
    message: /"prod" has no key "beta" \(xksctl key list prod\)/,
  },
  {
    name: 'disabling a key of no key store',
    body: { type: 'key.disable', keyStore: 'nowhere', externalKeyId: 'alpha' },
    code: 'not-found',
    message: /no key store "nowhere"/,
  },
  {
    name: 'a token with another cluster secret',
    body: { type: 'token.prepare', token: token('s2', 'aa03', 'aa04', 'bad0') },
    code: 'conflict',
    message: /s2 holds another cluster secret than token s1/,
  },
  {
    name: 'the same token with another cluster secret while credentials are sealed',
    body: { type: 'token.prepare', token: token('s1', 'aa01', 'aa02', 'bad0') },
    code: 'conflict',
    message: /another cluster secret/,
  },
  {
    name: 'a key as test key',
    body: { type: 'token.prepare', token: token('s2', 'bb01', 'aa04') },
    code: 'conflict',
    message: /bb01 can't be a test key: it is key "alpha"/,
  },
  {
    name: "another token's test key as wrapping key",
    body: { type: 'token.prepare', token: token('s2', 'aa03', 'aa01') },
    code: 'conflict',
    message: /aa01 can't be a wrapping key: it is the test key/,
  },
  {
    name: 'a token whose keys are one',
    body: { type: 'token.prepare', token: token('s2', 'aa03', 'aa03') },
    code: 'invalid',
    message: /are one object/,
  },
];

for (const { name, body, code, message } of refusals) {
  t.test(`refused: ${name}`, async (t) => {
    const { state, apply } = populated();
    const before = JSON.stringify([
      ...state.keyStores(),
      ...state.keys('prod'),
      ...state.credentials('prod'),
    ]);
    t.match(apply(body), { ok: false, error: { code, message } });
    t.equal(state.appliedIndex, 7, 'it counts as applied');
    const after = JSON.stringify([...state.keyStores(), ...state.keys('prod'), ...state.credentials('prod')]);
    t.equal(after, before, 'and changes nothing');
    t.strictSame(state.counts(), { keyStores: 2, credentials: 1, keys: 1 });
  });
}

t.test('disable, repeat, enable', async (t) => {
  const { state, apply } = populated();
  const key = { keyStore: 'prod', externalKeyId: 'alpha' };
  t.strictSame(apply({ type: 'key.disable', ...key }), { ok: true, revision: 7 });
  t.equal(state.key('prod', 'alpha')?.status, 'DISABLED');
  t.strictSame(apply({ type: 'key.disable', ...key }), { ok: true, revision: 8 }, 'never refused');
  t.match(
    apply({ type: 'key.enable', ...key, revision: 7 }),
    { ok: false, error: { code: 'conflict' } },
    'an enable that was under way when the key was disabled once more does not undo that',
  );
  t.strictSame(apply({ type: 'key.enable', ...key, revision: 8 }), { ok: true, revision: 10 });
  t.equal(state.key('prod', 'alpha')?.status, 'ENABLED');
  t.strictSame(apply({ type: 'key.enable', ...key, revision: 10 }), { ok: true, revision: 10 }, 'unchanged');
  t.strictSame(apply({ type: 'keystore.disable', name: 'prod' }), { ok: true, revision: 12 });
  t.equal(state.keyStoreByPrefix('')?.status, 'DISABLED', 'by prefix too');
  t.equal(state.key('prod', 'alpha')?.status, 'ENABLED', 'its keys keep their own status');
  t.strictSame(apply({ type: 'keystore.enable', name: 'prod', revision: 12 }), { ok: true, revision: 13 });
});

t.test('X-A2 a retired access key id is gone, and never given out again', async (t) => {
  const { state, apply } = populated();
  const retire: CommandBody = { type: 'credential.retire', keyStore: 'prod', accessKeyId: accessKeyId('A') };
  t.strictSame(apply(retire), { ok: true, revision: 7 });
  t.equal(state.credential(accessKeyId('A')), null);
  t.equal([...state.credentials('prod')].length, 0);
  t.strictSame(apply(retire), { ok: true, revision: 7 }, 'a repeat is no failure');
  t.match(apply(createCredential('test', accessKeyId('A'))), {
    ok: false,
    error: { code: 'already-exists' },
  });
});

t.test('X-A4 limits of credentials and tokens', async (t) => {
  const { apply } = populated();
  const letters = 'BCDEFGHIJKLM'.slice(0, limits.credentialsPerKeyStoreMax - 1);
  for (const letter of letters) t.match(apply(createCredential('prod', accessKeyId(letter))), { ok: true });
  t.match(apply(createCredential('prod', accessKeyId('Z'))), {
    ok: false,
    error: { code: 'limit', message: /has 10 credentials already.*retire one first/ },
  });
  t.match(apply({ type: 'credential.retire', keyStore: 'prod', accessKeyId: accessKeyId('B') }), {
    ok: true,
  });
  t.match(apply(createCredential('prod', accessKeyId('Z'))), { ok: true });
  for (let count = 1; count < limits.preparedTokensMax; count += 1) {
    const id = count.toString(16).padStart(4, '0');
    t.match(apply({ type: 'token.prepare', token: token(`t${count}`, `d0${id}`, `d1${id}`) }), { ok: true });
  }
  t.match(apply({ type: 'token.prepare', token: token('one-more', 'ee01', 'ee02') }), {
    ok: false,
    error: { code: 'limit' },
  });
  t.match(
    apply({ type: 'token.prepare', token: token('s1', 'aa01', 'aa02') }),
    { ok: true },
    'a known one may',
  );
});

t.test('a token prepared again frees the objects that it had', async (t) => {
  const { state, apply } = populated();
  t.match(apply({ type: 'token.prepare', token: token('s1', 'aa02', 'aa03') }), { ok: true });
  t.equal(state.objectUser('aa01'), null);
  t.equal(state.objectUser('aa02'), 'the test key of token "label s1" (s1)');
  t.match(
    apply({ type: 'token.prepare', token: token('s2', 'aa02', 'aa03') }),
    { ok: true },
    'tokens that replicate',
  );
});

t.test('limits of key stores and keys, and queries at the limit', async (t) => {
  const state = new KeyState();
  const apply = (body: CommandBody) => state.apply(state.appliedIndex + 1, command(body));
  for (let count = 0; count < limits.keyStoresMax; count += 1) {
    if (!apply(createStore(`s${count}`, `p${count}`)).ok) t.fail(`key store ${count}`);
  }
  t.match(apply(createStore('more', 'more')), { ok: false, error: { code: 'limit' } });
  for (let count = 0; count < limits.keysMax; count += 1) {
    const objectId = count.toString(16).padStart(8, '0');
    if (!apply(createKey(`s${count % limits.keyStoresMax}`, `k${count}`, objectId)).ok)
      t.fail(`key ${count}`);
  }
  t.match(apply(createKey('s0', 'more', 'ffffffff')), { ok: false, error: { code: 'limit' } });
  t.strictSame(state.counts(), { keyStores: limits.keyStoresMax, credentials: 0, keys: limits.keysMax });
  t.equal(state.key('s7', 'k99007')?.versions[0]?.objectId, (99_007).toString(16).padStart(8, '0'));
  t.equal(state.objectUser((99_007).toString(16).padStart(8, '0')), 'key "k99007" of key store "s7"');
  t.equal([...state.keys('s7')].length, limits.keysMax / limits.keyStoresMax);
});

t.test('X-U2 a key whose URI would be too long is refused', async (t) => {
  const state = new KeyState();
  const prefix = 'p'.repeat(116);
  t.match(state.apply(1, command(createStore('long', prefix))), { ok: true });
  t.match(state.apply(2, command(createKey('long', 'k'.repeat(113), 'cc'))), { ok: true });
  t.match(state.apply(3, command(createKey('long', 'k'.repeat(114), 'dd'))), {
    ok: false,
    error: { code: 'invalid', message: /1 characters longer than 256: choose a shorter/ },
  });
});

t.test('an index that does not follow is a bug, not a command', async (t) => {
  const { state } = populated();
  t.throws(() => state.apply(8, command(createStore('x', 'x'))), /index 8 after 6/);
  t.throws(() => state.apply(6, command(createStore('x', 'x'))), /index 6 after 6/);
});
