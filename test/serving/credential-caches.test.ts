import t from 'tap';
import type { CommandOf } from '../../src/keystate/types.js';
import { forgetLostCredentials } from '../../src/serving/credential-caches.js';
import { CredentialUse } from '../../src/serving/credential-use.js';
import { SecretStore } from '../../src/serving/secret-store.js';
import { formatCredential } from '../../src/sigv4/authorization.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { type CommandBody, FoundedCluster } from '../support/founded-cluster.js';
import { SeededRandom } from '../support/seeded-random.js';

const lost = 'A'.repeat(20);
const kept = 'B'.repeat(20);
const scope = { date: '20260101', region: 'eu-central-1', service: 'kms-xks-proxy' };

/** Two credentials that were used; `index` is that of the first one's creation. */
function used() {
  const secrets = new SecretStore(new SeededRandom(1));
  secrets.install(new Uint8Array(32).fill(7));
  const cluster = new FoundedCluster();
  const regions = ['eu-central-1'];
  cluster.done({ type: 'keystore.create', name: 'one', uriPathPrefix: '', regions, adopted: false });
  const signingKeys = new SigningKeyCache();
  const credentialUse = new CredentialUse();
  const create = (accessKeyId: string) => {
    const sealedSecret = secrets.seal({ keyStore: 'one', accessKeyId }, Buffer.from('secret'.repeat(8)));
    if (sealedSecret === null) throw new Error('not sealed');
    const index = cluster.done({ type: 'credential.create', keyStore: 'one', accessKeyId, sealedSecret });
    const credential = cluster.state.credential(accessKeyId);
    const secret = credential === null ? null : secrets.secretOf(credential);
    if (secret === null) throw new Error('not opened');
    signingKeys.remember(accessKeyId, scope, new Uint8Array(32).fill(1));
    credentialUse.used(accessKeyId, 1);
    return { index, secret };
  };
  const first = create(lost);
  const second = create(kept);
  const caches = { secrets, signingKeys, credentialUse };
  const apply = (body: CommandBody): void => {
    cluster.done(body);
    forgetLostCredentials(caches, cluster.state, {
      ...body,
      requestId: '',
      atMs: 0,
      by: '',
    } as CommandOf<'cluster.recover'>);
  };
  const isGone = (): boolean =>
    first.secret.every((byte) => byte === 0) &&
    signingKeys.find(formatCredential(lost, scope)) === null &&
    !Object.hasOwn(credentialUse.report(), lost);
  const isKept = (): boolean =>
    second.secret.some((byte) => byte !== 0) &&
    signingKeys.find(formatCredential(kept, scope)) !== null &&
    Object.hasOwn(credentialUse.report(), kept);
  return { apply, cluster, index: first.index, isGone, isKept, caches };
}

const recover = (index: number): CommandBody => ({
  type: 'cluster.recover',
  newClusterId: 'c-2',
  survivor: { memberId: 'm-a', name: 'node-a', address: 'a:1' },
  formerMembers: [],
  pending: [{ index, digest: 'cd'.repeat(32), type: 'credential.create', keyStore: 'one', name: lost }],
});

t.test('a credential that a recovery takes back, or that is retired, leaves nothing in memory', async (t) => {
  for (const ending of ['recover', 'retire'] as const) {
    const { apply, index, isGone, isKept } = used();
    t.notOk(isGone());
    apply(
      ending === 'recover'
        ? recover(index)
        : { type: 'credential.retire', keyStore: 'one', accessKeyId: lost },
    );
    t.ok(isGone(), ending);
    t.ok(isKept(), 'and the other one stays');
  }
});

t.test('dropped for good, what is left of it goes', async (t) => {
  const { apply, cluster, index, isGone, isKept } = used();
  cluster.done(recover(index));
  t.notOk(isGone(), 'nobody said so yet');
  apply({ type: 'pending.drop', index });
  t.ok(isGone());
  t.ok(isKept());
});

t.test('with another key state, what that has no more goes', async (t) => {
  const { cluster, index, isGone, isKept, caches } = used();
  cluster.done(recover(index));
  forgetLostCredentials(caches, cluster.state, null);
  t.ok(isGone());
  t.ok(isKept());
});
