import t from 'tap';
import type { GrantType, UnconfirmedGrant } from '../../src/keystate/cluster-types.js';
import { clusterLimits } from '../../src/keystate/cluster-types.js';
import { SnapshotReader, snapshotRecords } from '../../src/keystate/snapshot-codec.js';
import { type CommandBody, FoundedCluster, hourMs, startMs } from '../support/founded-cluster.js';

const secret = 'ab'.repeat(32);
const digest = 'cd'.repeat(32);
const accessKeyId = 'A'.repeat(20);

/** Three voters, an invited node, and key store `prod` with key `alpha` and a credential. */
function populated() {
  const cluster = new FoundedCluster();
  for (const id of ['b', 'c', 'd']) {
    cluster.done({
      type: 'member.add',
      memberId: `m-${id}`,
      name: `node-${id}`,
      address: `${id}:1`,
      joinSecretDigest: secret,
      expiresAtMs: startMs + hourMs,
    });
    if (id === 'd') break;
    cluster.done({ type: 'member.join', memberId: `m-${id}`, joinSecretDigest: secret, address: `${id}:1` });
    cluster.done({ type: 'member.promote', memberId: `m-${id}` });
  }
  const sealedSecret = { nonce: new Uint8Array(12), ciphertext: new Uint8Array(43), tag: new Uint8Array(16) };
  const store = cluster.done({
    type: 'keystore.create',
    name: 'prod',
    uriPathPrefix: '',
    regions: ['eu-central-1'],
    adopted: false,
  });
  const credential = cluster.done({ type: 'credential.create', keyStore: 'prod', accessKeyId, sealedSecret });
  const key = cluster.done({
    type: 'key.create',
    keyStore: 'prod',
    externalKeyId: 'alpha',
    objectId: 'aa',
    witness: null,
    checkValue: null,
    usage: [],
    description: '',
  });
  return { cluster, state: cluster.state, store, credential, key };
}

const recover = (
  pending: readonly UnconfirmedGrant[],
  newClusterId = 'c-2',
  formerMembers: readonly { readonly memberId: string; readonly name: string }[] = [],
): CommandBody => ({
  type: 'cluster.recover',
  newClusterId,
  survivor: { memberId: 'm-b', name: 'node-b', address: 'new-b:1' },
  formerMembers,
  pending,
});

const grant = (index: number, type: GrantType, name: string | null = null): UnconfirmedGrant => ({
  index,
  digest,
  type,
  keyStore: 'prod',
  name,
});

t.test('the survivor goes on alone under a new id', async (t) => {
  const { cluster, state } = populated();
  const others = [{ memberId: 'm-z', name: 'node-z' }];
  const revision = cluster.done(recover([], 'c-2', [...others, { memberId: 'm-c', name: 'node-c' }]));
  t.match(state.cluster(), { clusterId: 'c-2', nodeName: 'node-a' });
  t.strictSame(state.membership(), { voters: ['m-b'], learners: [] });
  t.match(state.member('m-b'), {
    name: 'node-b',
    address: 'new-b:1',
    status: 'voter',
    joinedIndex: revision,
  });
  t.equal(state.member('m-d'), null, 'an invitation is to the cluster that is no more');
  t.strictSame(
    [...state.formerMembers()].map(({ memberId, reason, destroyed }) => ({ memberId, reason, destroyed })),
    ['m-a', 'm-c', 'm-z'].map((memberId) => ({ memberId, reason: 'recovered', destroyed: false })),
  );
  t.match(state.key('prod', 'alpha'), { status: 'ENABLED' });
  t.ok(state.credential(accessKeyId));
  t.match(cluster.apply({ type: 'member.join', memberId: 'm-a', joinSecretDigest: secret, address: 'a:1' }), {
    ok: false,
    error: { message: /left behind by a recovery/ },
  });
});

t.test('a cluster of before there were members is recovered too', async (t) => {
  const { cluster, state } = populated();
  cluster.done(recover([]));
  cluster.done({
    type: 'cluster.recover',
    newClusterId: 'c-3',
    survivor: { memberId: 'm-n', name: 'node-n', address: 'n:1' },
    formerMembers: [],
    pending: [],
  });
  t.strictSame(state.membership(), { voters: ['m-n'], learners: [] }, 'from a copy on a new node, say');
  t.ok([...state.formerMembers()].some(({ memberId }) => memberId === 'm-b'));
});

t.test('a recovery that can not be', async (t) => {
  const { cluster, state } = populated();
  t.match(cluster.apply(recover([], 'c-1')), {
    ok: false,
    error: { code: 'conflict', message: /another cluster id/ },
  });
  t.match(cluster.apply(recover([], 'c-2', [{ memberId: 'm-b', name: 'node-b' }])), {
    ok: false,
    error: { code: 'invalid', message: /each once/ },
  });
  cluster.done({ type: 'member.remove', memberId: 'm-b' });
  t.match(cluster.apply(recover([])), { ok: false, error: { code: 'conflict', message: /former member/ } });
  t.match(state.cluster(), { clusterId: 'c-1' });
  t.strictSame(state.membership(), { voters: ['m-a', 'm-c'], learners: [] });
});

t.test('a key whose grant is unconfirmed is disabled until it is confirmed', async (t) => {
  const { cluster, state, key } = populated();
  const revision = cluster.done(recover([grant(key, 'key.create', 'alpha')]));
  t.match(state.key('prod', 'alpha'), { status: 'DISABLED', revision });
  t.match([...state.pending()], [{ ...grant(key, 'key.create', 'alpha'), revision }]);
  const confirmed = cluster.done({ type: 'pending.confirm', index: key });
  t.match(state.key('prod', 'alpha'), { status: 'ENABLED', revision: confirmed });
  t.strictSame([...state.pending()], []);
  t.match(cluster.apply({ type: 'pending.confirm', index: key }), {
    ok: false,
    error: { code: 'not-found' },
  });
});

t.test('dropped, it stays disabled; denied meanwhile, it is not given back', async (t) => {
  const { cluster, state, key } = populated();
  cluster.done(recover([grant(key, 'key.create', 'alpha')]));
  cluster.done({ type: 'key.disable', keyStore: 'prod', externalKeyId: 'alpha' });
  t.match(cluster.apply({ type: 'pending.confirm', index: key }), {
    ok: false,
    error: { code: 'conflict', message: /"alpha" in key store "prod" .*overtaken by a later change/ },
  });
  t.equal(state.key('prod', 'alpha')?.status, 'DISABLED');
  cluster.done({ type: 'pending.drop', index: key });
  t.strictSame([...state.pending()], []);
  t.equal(state.key('prod', 'alpha')?.status, 'DISABLED');
});

t.test('a grant with a later change is not pending', async (t) => {
  const { cluster, state, key } = populated();
  const coordinates = { keyStore: 'prod', externalKeyId: 'alpha' };
  const disabled = cluster.done({ type: 'key.disable', ...coordinates });
  cluster.done(recover([grant(key, 'key.create', 'alpha')]));
  t.strictSame([...state.pending()], [], 'denied already');
  const enabled = cluster.done({ type: 'key.enable', ...coordinates, revision: disabled });
  cluster.done(recover([grant(disabled - 1, 'key.create', 'alpha')], 'c-3'));
  t.equal(state.key('prod', 'alpha')?.status, 'ENABLED', 'enabled by a later command that is confirmed');
  cluster.done(recover([grant(key, 'key.create', 'alpha'), grant(enabled, 'key.enable', 'alpha')], 'c-4'));
  t.strictSame(
    [...state.pending()].map(({ index }) => index),
    [enabled],
    'of two the later one',
  );
});

t.test('a credential is out of force until it is confirmed', async (t) => {
  const { cluster, state, credential } = populated();
  const sealedSecret = state.credential(accessKeyId)?.sealedSecret;
  const pending = [grant(credential, 'credential.create', accessKeyId)];
  cluster.done(recover(pending));
  t.equal(state.credential(accessKeyId), null);
  t.match(
    cluster.apply({
      type: 'credential.create',
      keyStore: 'prod',
      accessKeyId,
      sealedSecret: sealedSecret ?? {
        nonce: new Uint8Array(12),
        ciphertext: new Uint8Array(1),
        tag: new Uint8Array(16),
      },
    }),
    { ok: false, error: { code: 'already-exists' } },
    'X-A2 its id stays its own',
  );
  const confirmed = cluster.done({ type: 'pending.confirm', index: credential });
  t.match(state.credential(accessKeyId), { sealedSecret, revision: confirmed });
  cluster.done(recover([grant(confirmed, 'credential.create', accessKeyId)], 'c-3'));
  cluster.done({ type: 'pending.drop', index: confirmed });
  t.equal(state.credential(accessKeyId), null);
  t.match(
    cluster.apply({ type: 'credential.retire', keyStore: 'prod', accessKeyId }),
    { ok: true },
    'retired',
  );
});

t.test('a pending credential can be retired', async (t) => {
  const { cluster, state, credential } = populated();
  cluster.done(recover([grant(credential, 'credential.create', accessKeyId)]));
  t.match(cluster.apply({ type: 'credential.retire', keyStore: 'prod', accessKeyId }), { ok: true });
  t.strictSame([...state.pending()], []);
  t.equal(state.credential(accessKeyId), null);
});

t.test('a key store: its status and its isolation rule are taken back and given back apart', async (t) => {
  const { cluster, state, store } = populated();
  const stop = cluster.done({
    type: 'keystore.set',
    name: 'prod',
    onIsolation: { rule: 'stop', boundMs: 7_000 },
    revision: 0,
  });
  const set = cluster.done({
    type: 'keystore.set',
    name: 'prod',
    onIsolation: { rule: 'stop', boundMs: 9_000 },
    revision: stop,
  });
  cluster.done(recover([grant(store, 'keystore.create'), grant(set, 'keystore.set')]));
  t.match(state.keyStore('prod'), { status: 'DISABLED', onIsolation: { rule: 'stop', boundMs: 6_000 } });
  t.equal([...state.pending()].length, 2);
  cluster.done({ type: 'pending.confirm', index: set });
  t.match(state.keyStore('prod'), { status: 'DISABLED', onIsolation: { rule: 'stop', boundMs: 9_000 } });
  cluster.done({ type: 'pending.confirm', index: store });
  t.match(state.keyStore('prod'), { status: 'ENABLED', onIsolation: { rule: 'stop', boundMs: 9_000 } });
});

t.test('of two grants of one key store the later one waits', async (t) => {
  const { cluster, state, store } = populated();
  const disabled = cluster.done({ type: 'keystore.disable', name: 'prod' });
  const enabled = cluster.done({ type: 'keystore.enable', name: 'prod', revision: disabled });
  cluster.done(recover([grant(store, 'keystore.create'), grant(enabled, 'keystore.enable')]));
  t.strictSame(
    [...state.pending()].map(({ index }) => index),
    [enabled],
  );
});

t.test('a long list comes in parts, each once', async (t) => {
  const { cluster, state, key, credential } = populated();
  cluster.done(recover([grant(key, 'key.create', 'alpha')]));
  const more = recover([grant(credential, 'credential.create', accessKeyId)]);
  t.match(cluster.apply(more), { ok: true });
  t.strictSame(
    [...state.pending()].map(({ index }) => index),
    [credential, key],
  );
  t.equal([...state.formerMembers()].length, 2);
  const many = Array.from({ length: clusterLimits.pendingPerCommandMax + 1 }, (_, place) =>
    grant(place + 1, 'key.enable', 'alpha'),
  );
  t.match(cluster.apply(recover(many, 'c-5')), {
    ok: false,
    error: { code: 'invalid', message: /up to 128 grants/ },
  });
});

t.test('what a recovery left open is in snapshots, and in the hash', async (t) => {
  const { cluster, state, key, credential, store } = populated();
  const before = state.hash();
  cluster.done(
    recover([
      grant(key, 'key.create', 'alpha'),
      grant(credential, 'credential.create', accessKeyId),
      grant(store, 'keystore.create'),
    ]),
  );
  t.not(state.hash(), before);
  const reader = new SnapshotReader();
  for (const record of snapshotRecords(state)) reader.push(record);
  const restored = reader.finish();
  if (!restored.ok) throw new Error(restored.error);
  t.equal(restored.value.hash(), state.hash());
  t.strictSame([...restored.value.pending()], [...state.pending()]);
  t.strictSame([...restored.value.formerMembers()], [...state.formerMembers()]);
  t.strictSame([...restored.value.members()], [...state.members()]);
});
