import t from 'tap';
import { err, ok, type Result } from '../../../src/base/result.js';
import { certificatePollMs } from '../../../src/replication/transport/limits.js';
import type { PeerTlsFiles } from '../../../src/replication/transport/peer-credentials.js';
import { VirtualTime } from '../../support/virtual-time.js';
import { heartbeat, nodeFiles, startPeer, type TestPeer, testAuthority } from './peers.js';

const a = { memberId: 'm-a', name: 'a' };
const b = { memberId: 'm-b', name: 'b' };

/** Both streams are made anew, and carry messages. */
async function reconnected(peerA: TestPeer, peerB: TestPeer): Promise<void> {
  await Promise.all([peerA.next('connected'), peerB.next('connected')]);
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  peerB.transport.send('m-a', heartbeat(peerB, peerA));
  await Promise.all([peerA.next('message'), peerB.next('message')]);
}

t.test('from one CA to the next over both, one node at a time', async (t) => {
  const [old, next] = [await testAuthority(t), await testAuthority(t)];
  const both = `${old.pem}${next.pem}`;
  const oldA = await nodeFiles(old, 'a');
  const oldB = await nodeFiles(old, 'b');
  const files = { a: oldA, b: oldB };
  const peerA = await startPeer(t, { ...a, files: () => ok(files.a) });
  const peerB = await startPeer(t, { ...b, files: () => ok(files.b) });
  peerA.meet(peerB);
  peerB.meet(peerA);
  await reconnected(peerA, peerB);

  const steps: readonly Partial<typeof files>[] = [
    { a: { ...oldA, ca: both } },
    { b: { ...oldB, ca: both } },
    { a: await nodeFiles(next, 'a', both) },
    { b: await nodeFiles(next, 'b', both) },
    { a: await nodeFiles(next, 'a') },
    { b: await nodeFiles(next, 'b') },
  ];
  for (const step of steps) {
    Object.assign(files, step);
    const reloading = step.a === undefined ? peerB : peerA;
    t.strictSame(reloading.transport.reloadTls(), { ok: true, value: 'changed' });
    await reconnected(peerA, peerB);
    t.match(peerB.transport.stats(), { inboundStreams: 1, peers: [{ connected: true }] });
  }
  t.strictSame(peerA.transport.reloadTls(), { ok: true, value: 'unchanged' });
});

t.test('a CA that is no longer trusted ends the connections that it certified', async (t) => {
  const [old, next] = [await testAuthority(t), await testAuthority(t)];
  const filesB = await nodeFiles(old, 'b');
  let files = filesB;
  const peerB = await startPeer(t, { ...b, files: () => ok(files) });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(old, 'a') });
  peerA.meet(peerB);
  await peerA.next('connected');
  files = { ...filesB, ca: next.pem };
  t.ok(peerB.transport.reloadTls().ok);
  t.match(await peerA.next('unreachable', ({ detail }) => /may not trust/.test(detail)), { member: 'm-b' });
  t.equal(peerB.transport.stats().inboundStreams, 0);
});

t.test('changed files are noticed, and those that cannot be used change nothing', async (t) => {
  const authority = await testAuthority(t);
  const time = new VirtualTime();
  const filesA = await nodeFiles(authority, 'a');
  let files: Result<PeerTlsFiles, string> = ok(filesA);
  const peerA = await startPeer(t, { ...a, files: () => files, timers: time });
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  peerA.meet(peerB);
  await peerA.next('connected');
  const looks = (): void => time.advance(certificatePollMs);

  looks();
  t.strictSame(peerA.pending, [], 'nothing new');
  files = err('TLS certificate /etc/xksd/tls/node.pem: no such file');
  looks();
  looks();
  t.strictSame(peerA.pending, [
    { kind: 'tlsReload', problem: 'TLS certificate /etc/xksd/tls/node.pem: no such file' },
  ]);
  const { key } = await nodeFiles(authority, 'a');
  files = ok({ ...filesA, key });
  looks();
  await peerA.next('tlsReload');
  t.match(await peerA.next('tlsReload'), { problem: /cannot be used: .*key values mismatch/ });
  t.equal(peerA.transport.stats().peers[0]?.connected, true);
  files = ok(await nodeFiles(authority, 'a'));
  looks();
  t.match(await peerA.next('tlsReload'), { problem: null });
  await peerA.next('connected');
});
