import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import { encodeEnvelope } from '../../../src/replication/transport/envelope-codec.js';
import * as wire from '../../../src/replication/transport/generated/peer.js';
import { acceptedMsMin, messageBytesMax, reconnectMsMax } from '../../../src/replication/transport/limits.js';
import type { PeerGate } from '../../../src/replication/transport/peer-server.js';
import { refusalOf } from '../../../src/replication/transport/refusal.js';
import { VirtualTime } from '../../support/virtual-time.js';
import { heartbeat, nodeFiles, startPeer, type TestPeer, testAuthority, testClusterId } from './peers.js';
import { RawPeer } from './raw-peer.js';

const a = { memberId: 'm-a', name: 'a' };
const b = { memberId: 'm-b', name: 'b' };

const received = (peer: TestPeer): number => peer.transport.stats().received.raft;

t.test('a node certified by another CA reaches nobody and is reached by nobody', async (t) => {
  const [ours, theirs] = [await testAuthority(t), await testAuthority(t)];
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(ours, 'a') });
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(theirs, 'b') });
  peerA.meet(peerB);
  t.match(await peerA.next('unreachable'), { member: 'm-b', detail: /self-signed|unable to/ });

  // It trusts us now, and we still don't trust it.
  const trusting = await startPeer(t, {
    ...b,
    files: await nodeFiles(theirs, 'b', `${theirs.pem}${ours.pem}`),
  });
  trusting.meet(peerA);
  t.match(await trusting.next('unreachable'), { member: 'm-a', detail: /may not trust our certificate/ });
  t.equal(peerA.transport.stats().inboundStreams, 0);
});

t.test('a node is not taken for another by its address', async (t) => {
  const authority = await testAuthority(t);
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const peerC = await startPeer(t, { memberId: 'm-c', name: 'c', files: await nodeFiles(authority, 'c') });
  peerA.transport.setMembers([{ memberId: 'm-b', name: 'b', address: peerC.address }]);
  t.match(await peerA.next('unreachable'), {
    member: 'm-b',
    detail: /its certificate is for c, not for b/,
  });
});

t.test('nobody speaks for a member with the certificate of another node', async (t) => {
  const authority = await testAuthority(t);
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'x') });
  peerA.meet(peerB);
  await peerA.next('connected');
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  t.match(await peerA.next('refused'), { member: 'm-b', reason: 'wrong-name' });
  t.equal(received(peerB), 0);
  t.equal(peerB.transport.stats().refused['wrong-name'], 1);
});

t.test('a member that is removed learns so from its next message, on the stream that it has', async (t) => {
  const authority = await testAuthority(t);
  let verdict: ReturnType<PeerGate['authorize']> = { ok: true };
  const peerB = await startPeer(t, {
    ...b,
    files: await nodeFiles(authority, 'b'),
    authorize: (from, names) => {
      t.strictSame([from, names], ['m-a', ['a']]);
      return verdict;
    },
  });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  peerA.meet(peerB);
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
  verdict = { ok: false, reason: 'removed' };
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  t.strictSame(await peerA.next('refused'), {
    kind: 'refused',
    member: 'm-b',
    reason: 'removed',
    detail: 'the member was removed from the cluster (member m-a)',
  });
  t.equal(received(peerB), 1);

  // It asks again, and is let in again when the others have changed their mind.
  verdict = { ok: true };
  await peerA.next('connected');
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
});

t.test('a peer that refuses us does not count as connected between one stream and the next', async (t) => {
  const authority = await testAuthority(t);
  let verdict: ReturnType<PeerGate['authorize']> = { ok: true };
  const time = new VirtualTime();
  const files = await nodeFiles(authority, 'b');
  const peerB = await startPeer(t, { ...b, files, authorize: () => verdict });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a'), timers: time });
  const isConnected = () => peerA.transport.stats().peers[0]?.connected;
  peerA.meet(peerB);
  await peerA.next('connected');
  t.equal(isConnected(), true);
  verdict = { ok: false, reason: 'unknown' };
  for (let round = 1; round <= 3; round++) {
    peerA.transport.send('m-b', heartbeat(peerA, peerB));
    await peerA.next('refused');
    t.equal(isConnected(), false);
    time.advance(reconnectMsMax);
    await peerA.next('connected');
    t.equal(isConnected(), false, 'let in by TLS, and not listened to as far as is known');
  }
  verdict = { ok: true };
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
  time.advance(acceptedMsMin);
  t.equal(isConnected(), true);
});

t.test('another cluster, another member, another format', async (t) => {
  const authority = await testAuthority(t);
  const [filesA, filesB] = [await nodeFiles(authority, 'a'), await nodeFiles(authority, 'b')];
  const peerB = await startPeer(t, { ...b, files: filesB });
  const cases = [
    [{ clusterId: 'cluster-2' }, 'm-b', 'foreign-cluster', /this is cluster cluster-1/],
    [{}, 'm-b2', 'wrong-member', /this is member m-b/],
    [{ format: () => 3 }, 'm-b', 'format', /format 3, and formats 1 to 2 are read/],
  ] as const;
  for (const [changes, to, reason, detail] of cases) {
    const peerA = await startPeer(t, { ...a, files: filesA, ...changes });
    peerA.transport.setMembers([{ memberId: to, name: 'b', address: peerB.address }]);
    await peerA.next('connected');
    peerA.transport.send(to, {
      kind: 'raft',
      message: { kind: 'timeoutNow', from: 'm-a', to, term: 1 },
    });
    t.match(await peerA.next('refused'), { member: to, reason, detail });
  }
  t.equal(received(peerB), 0);
});

t.test('whom a recovery left behind, known here as a former member, is told that it was', async (t) => {
  const authority = await testAuthority(t);
  const peerB = await startPeer(t, {
    ...b,
    files: await nodeFiles(authority, 'b'),
    authorize: () => ({ ok: false, reason: 'removed' }),
  });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a'), clusterId: 'cluster-2' });
  peerA.meet(peerB);
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  t.match(await peerA.next('refused'), { member: 'm-b', reason: 'other-cluster' });
});

t.test('garbage ends its own stream and nothing else', async (t) => {
  const authority = await testAuthority(t);
  const filesA = await nodeFiles(authority, 'a');
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const peerA = await startPeer(t, { ...a, files: filesA });
  peerA.meet(peerB);
  await peerA.next('connected');

  const garbage = new RawPeer(t, peerB, filesA);
  garbage.write(Buffer.from('no protocol buffer'));
  const ended = await garbage.ended;
  t.equal(ended?.code, status.INVALID_ARGUMENT);
  t.equal(ended === null ? null : refusalOf(ended)?.reason, 'malformed');

  const oversized = new RawPeer(t, peerB, filesA);
  oversized.write(Buffer.alloc(messageBytesMax + 1));
  t.equal((await oversized.ended)?.code, status.RESOURCE_EXHAUSTED);

  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
  t.match(peerB.transport.stats(), { refused: { malformed: 1 }, inboundStreams: 1 });
});

t.test('kinds that a newer version knows are ignored and counted', async (t) => {
  const authority = await testAuthority(t);
  const filesA = await nodeFiles(authority, 'a');
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const newer = new RawPeer(t, peerB, filesA);
  const header = { format: 2, clusterId: testClusterId, from: 'm-a', to: 'm-b' };
  newer.write(Buffer.from(wire.Envelope.encode({ ...header, message: undefined }).finish()));
  const message = { kind: 'timeoutNow', from: 'm-a', to: 'm-b', term: 1 } as const;
  newer.write(encodeEnvelope({ ...header, message: { kind: 'raft', message } }));
  t.match(await peerB.next('message'), { message: { message: { kind: 'timeoutNow' } } });
  t.equal(peerB.transport.stats().ignored, 1);
  newer.end();
  t.equal(await newer.ended, null, 'a stream may also end in order');
});

t.test('TLS 1.3 with a certificate, or nothing', async (t) => {
  const authority = await testAuthority(t);
  const files = await nodeFiles(authority, 'a');
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const { port } = peerB.transport;
  const shown = { cert: files.certificate, key: files.key };
  const tls = async (
    options: object,
  ): Promise<{ outcome: string; reused: boolean; session: Buffer | null }> => {
    const socket = connectTls({
      ...{ port, host: '127.0.0.1', ca: files.ca, ALPNProtocols: ['h2'] },
      checkServerIdentity: () => undefined,
      ...options,
    });
    let session: Buffer | null = null;
    socket.on('session', (ticket: Buffer) => {
      session = ticket;
    });
    const outcome = await new Promise<string>((resolve) => {
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      socket.on('close', () => resolve('closed'));
      // The server's HTTP/2 settings: we are in.
      socket.on('data', () => resolve(socket.getProtocol() ?? ''));
    });
    const reused = socket.isSessionReused();
    socket.destroy();
    return { outcome, reused, session };
  };
  const first = await tls(shown);
  t.equal(first.outcome, 'TLSv1.3');
  t.not(first.session, null);
  const again = await tls({ ...shown, session: first.session });
  t.match(again, { outcome: 'TLSv1.3' });
  t.equal(again.reused, false, 'each connection verifies the certificate');
  t.equal((await tls({ ...shown, maxVersion: 'TLSv1.2' })).outcome, 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION');
  t.match((await tls({})).outcome, /^(closed|ECONNRESET|ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED)$/);

  const plain = connectTcp({ port, host: '127.0.0.1' });
  plain.on('error', () => {});
  plain.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  await once(plain, 'close');
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => {});
  await once(session, 'close');
  t.equal(peerB.transport.stats().inboundStreams, 0);
});
