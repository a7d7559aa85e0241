import t from 'tap';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import type { Command } from '../../src/keystate/types.js';
import { caller, makeReplica, type ReplicaAtSeams } from './replica-at-seams.js';

/** A replica whose cluster was recovered: a key, a credential and a key store wait for a decision. */
async function recovered(t: Parameters<typeof makeReplica>[0]) {
  const replica = await makeReplica(t);
  const { log } = replica;
  const propose = async (body: object): Promise<number> => {
    const { requestId } = caller();
    await log.propose(encodeCommand({ ...body, requestId, atMs: Date.now(), by: '' } as Command));
    return log.appliedIndex;
  };
  const memberId = 'id-node-1';
  const founder = { clusterId: 'c-1', nodeName: 'node-1', memberId, address: 'a:1', format: 2 };
  await propose({ type: 'cluster.init', ...founder });
  const keyStore = 'prod';
  const regions = ['eu-central-1'];
  const store = await propose({
    type: 'keystore.create',
    name: keyStore,
    uriPathPrefix: '',
    regions,
    adopted: false,
  });
  const key = await propose({
    type: 'key.create',
    keyStore,
    externalKeyId: 'alpha',
    objectId: 'aa',
    witness: null,
    checkValue: null,
    usage: [],
    description: '',
  });
  const accessKeyId = 'A'.repeat(20);
  const sealedSecret = {
    nonce: new Uint8Array(12),
    ciphertext: new Uint8Array(43),
    tag: new Uint8Array(16),
  };
  const credential = await propose({ type: 'credential.create', keyStore, accessKeyId, sealedSecret });
  const digest = 'cd'.repeat(32);
  await propose({
    type: 'cluster.recover',
    newClusterId: 'c-2',
    survivor: { memberId, name: 'node-1', address: 'a:1' },
    formerMembers: [],
    pending: [
      { index: store, digest, type: 'keystore.create', keyStore, name: null },
      { index: key, digest, type: 'key.create', keyStore, name: 'alpha' },
      { index: credential, digest, type: 'credential.create', keyStore, name: accessKeyId },
    ],
  });
  return { replica, store, key, credential, accessKeyId };
}

const degraded = async ({ run }: ReplicaAtSeams): Promise<readonly string[]> => {
  const status = await run('cluster.status', {});
  return status.ok ? status.value.degraded : [];
};

t.test('what waits is listed, counted in the status, and decided one by one', async (t) => {
  const { replica, store, key, credential, accessKeyId } = await recovered(t);
  const { run, log } = replica;
  const listed = await run('pending.list', {});
  t.match(listed, {
    ok: true,
    value: {
      pending: [
        { index: store, command: 'keystore.create', keyStore: 'prod', name: null },
        { index: key, command: 'key.create', keyStore: 'prod', name: 'alpha' },
        { index: credential, command: 'credential.create', name: accessKeyId },
      ],
    },
  });
  t.match(await degraded(replica), [/^3 grants wait for a decision since a recovery.*cluster pending list/]);
  t.match(await run('pending.confirm', { index: key }), {
    ok: true,
    value: { index: key, grant: { name: 'alpha' }, change: { applied: true } },
  });
  t.equal(log.machine.state.key('prod', 'alpha')?.status, 'ENABLED');
  t.match(await run('pending.drop', { index: credential }), { ok: true, value: { index: credential } });
  t.equal(log.machine.state.credential(accessKeyId), null);
  t.match(await degraded(replica), [/^1 grant waits for a decision/]);
  t.match(await run('pending.confirm', { index: store }), { ok: true });
  t.equal(log.machine.state.keyStore('prod')?.status, 'ENABLED');
  t.strictSame(await degraded(replica), []);
});

t.test('a decision is made once', async (t) => {
  const { replica, key, store } = await recovered(t);
  const { run } = replica;
  const { requestId } = caller();
  t.match(await run('pending.confirm', { index: key }, requestId), {
    ok: true,
    value: { grant: { index: key }, change: { repeated: false } },
  });
  t.match(await run('pending.confirm', { index: key }, requestId), {
    ok: true,
    value: { grant: null, change: { repeated: true } },
  });
  t.match(await run('pending.drop', { index: key }), {
    ok: false,
    error: { code: 'not-found', message: /no grant at index/ },
  });
  t.match(await run('keystore.disable', { name: 'prod' }), { ok: true });
  t.match(await replica.api.run('pending.confirm', { index: 0 }, caller()), {
    ok: false,
    error: { code: 'bad-request' },
  });
  const overtaken = {
    ok: false,
    error: { code: 'conflict', message: /overtaken by a later change.*drop it/ },
  };
  t.match(await run('pending.confirm', { index: store }), overtaken, 'a denial since then counts');
  t.match(await run('pending.drop', { index: store }), { ok: true });
});
