import t from 'tap';
import { err, ok, type Result } from '../../../src/base/result.js';
import type { PeerMessage } from '../../../src/replication/peer-message.js';
import {
  certificatePollMs,
  connectTimeoutMs,
  renewalRetryMs,
  renewalTroubleMs,
  untrustedGraceMs,
} from '../../../src/replication/transport/limits.js';
import type { PeerTlsFiles } from '../../../src/replication/transport/peer-credentials.js';
import { VirtualTime } from '../../support/virtual-time.js';
import { heartbeat, nodeFiles, startPeer, type TestPeer, testAuthority } from './peers.js';
import { startTcpProxy } from './tcp-proxy.js';
import { Traffic } from './traffic.js';

const a = { memberId: 'm-a', name: 'a' };
const b = { memberId: 'm-b', name: 'b' };
const c = { memberId: 'm-c', name: 'c' };

async function heard(from: TestPeer, to: TestPeer, commitIndex: number): Promise<void> {
  from.transport.send(to.memberId, heartbeat(from, to, commitIndex));
  await to.next('message', ({ message }) => message.kind === 'raft' && isHeartbeat(message, commitIndex));
}

const isHeartbeat = ({ message }: Extract<PeerMessage, { kind: 'raft' }>, commitIndex: number): boolean =>
  message.kind === 'heartbeat' && message.commitIndex === commitIndex;

/** Lets sockets get on with it until `happened`. */
async function until(happened: () => boolean): Promise<void> {
  while (!happened()) await new Promise<void>((resolve) => void setImmediate(resolve));
}

t.test('from one CA to the next over both, without losing a message', async (t) => {
  const [old, next] = [await testAuthority(t), await testAuthority(t)];
  const both = `${old.pem}${next.pem}`;
  const traffic = new Traffic();
  const nodes = await Promise.all(
    [a, b, c].map(async (node) => {
      const [before, after] = [await nodeFiles(old, node.name), await nodeFiles(next, node.name)];
      const now = { files: before };
      const onEvent = (event: Parameters<Traffic['heard']>[1]): void => traffic.heard(node.memberId, event);
      const peer = await startPeer(t, { ...node, files: () => ok(now.files), onEvent });
      return { peer, now, before, after };
    }),
  );
  const peers = nodes.map(({ peer }) => peer);
  for (const peer of peers) peer.meet(...peers.filter((other) => other !== peer));
  for (const peer of peers) for (let other = 1; other <= 2; other++) await peer.next('connected');
  traffic.start(peers);

  // Each node stays behind or ahead of the others for a while, and with the last step doesn't trust them.
  const steps: readonly ((node: (typeof nodes)[number]) => PeerTlsFiles)[] = [
    ({ before }) => ({ ...before, ca: both }),
    ({ after }) => ({ ...after, ca: both }),
    ({ before }) => ({ ...before, ca: both }),
    ({ after }) => after,
  ];
  for (const step of steps) {
    for (const node of nodes) {
      node.now.files = step(node);
      t.strictSame(node.peer.transport.reloadTls(), { ok: true, value: 'changed' });
      await traffic.more(25);
    }
    for (const peer of peers) for (let other = 1; other <= 2; other++) await peer.next('connected');
    await traffic.more(25);
  }
  const { lost, unreachable } = await traffic.stop();
  t.strictSame([lost, unreachable], [[], []]);
  for (const { transport } of peers) {
    await until(() => transport.stats().inboundConnections === 2);
    t.match(transport.stats(), {
      dropped: { raft: 0 },
      inboundStreams: 2,
      peers: [{ connected: true, queuedMessages: 0 }, { connected: true }],
    });
    t.strictSame(transport.reloadTls(), { ok: true, value: 'unchanged' });
  }
});

t.test('what waits, is being written or is asked survives a reload', async (t) => {
  const authority = await testAuthority(t);
  let files = await nodeFiles(authority, 'a');
  let answer: () => void = () => {};
  const asked = new Promise<void>((resolve) => {
    answer = resolve;
  });
  let answerNow: (value: string) => void = () => {};
  const onCall = (): Promise<unknown> => {
    answer();
    return new Promise((resolve) => {
      answerNow = resolve;
    });
  };
  const arrived: string[] = [];
  const peerA = await startPeer(t, { ...a, files: () => ok(files) });
  const peerB = await startPeer(t, {
    ...b,
    files: await nodeFiles(authority, 'b'),
    onCall,
    onEvent: (event) => {
      if (event.kind === 'message' && event.message.kind === 'propose')
        arrived.push(event.message.proposalId);
    },
  });
  peerA.meet(peerB);
  await peerA.next('connected');
  const called = peerA.transport.call('m-b', 'status', null);
  await asked;

  const sent: string[] = [];
  const propose = (): void => {
    sent.push(`p-${sent.length}`);
    peerA.transport.send('m-b', {
      ...{ kind: 'propose', proposalId: sent.at(-1) ?? '', entryKind: 'command' },
      command: Buffer.alloc(100_000),
    });
  };
  for (let message = 0; message < 50; message++) propose();
  files = await nodeFiles(authority, 'a');
  for (let message = 0; message < 50; message++) propose();
  t.ok(peerA.transport.reloadTls().ok);
  for (let message = 0; message < 50; message++) propose();
  await peerA.next('connected');
  for (let message = 0; message < 50; message++) propose();
  await until(() => arrived.length >= sent.length);
  t.strictSame(arrived.toSorted(), sent.toSorted());
  t.match(peerA.transport.stats(), {
    dropped: { propose: 0 },
    peers: [{ queuedMessages: 0, queuedBytes: 0 }],
  });
  await until(() => peerB.transport.stats().inboundStreams === 1);
  t.equal(peerB.transport.stats().inboundConnections, 2, 'the old connection is there for the answer');
  answerNow('late');
  t.strictSame(await called, { ok: true, value: 'late' });
  await until(() => peerB.transport.stats().inboundConnections === 1);
});

t.test('messages that wait for the first connection wait for that with new certificates', async (t) => {
  const authority = await testAuthority(t);
  let files = await nodeFiles(authority, 'a');
  const nextFiles = await nodeFiles(authority, 'a');
  const peerA = await startPeer(t, { ...a, files: () => ok(files) });
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  peerA.meet(peerB);
  peerA.transport.send('m-b', heartbeat(peerA, peerB, 7));
  files = nextFiles;
  t.ok(peerA.transport.reloadTls().ok);
  t.match(await peerB.next('message'), { message: { message: { commitIndex: 7 } } });
});

t.test('a peer whose certificate is no longer trusted is cut, after a while', async (t) => {
  const [old, next] = [await testAuthority(t), await testAuthority(t)];
  const filesB = await nodeFiles(old, 'b');
  let files = filesB;
  const time = new VirtualTime();
  const peerB = await startPeer(t, { ...b, files: () => ok(files), timers: time });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(old, 'a') });
  peerA.meet(peerB);
  peerB.meet(peerA);
  await Promise.all([peerA.next('connected'), peerB.next('connected')]);

  const trust = (ca: string): void => {
    files = { ...filesB, ca };
    t.ok(peerB.transport.reloadTls().ok);
  };
  trust(`${next.pem}${old.pem}`);
  await peerB.next('connected');
  time.advance(untrustedGraceMs);
  await heard(peerA, peerB, 1);
  trust(next.pem);
  time.advance(untrustedGraceMs - 1);
  await heard(peerA, peerB, 2);
  trust(`${old.pem}${next.pem}`);
  await peerB.next('connected');
  time.advance(untrustedGraceMs);
  await heard(peerA, peerB, 3);
  await heard(peerB, peerA, 3);
  t.notOk(
    peerA.pending.some(({ kind }) => kind === 'unreachable'),
    'trusted again in time',
  );

  trust(next.pem);
  time.advance(untrustedGraceMs - 1);
  // Neither is cut before the time has come, though another reload has been seen meanwhile.
  files = { ...filesB, ca: `${next.pem}\n` };
  t.ok(peerB.transport.reloadTls().ok);
  await heard(peerA, peerB, 4);
  await heard(peerB, peerA, 4);
  time.advance(1);
  t.match(await peerB.next('unreachable'), {
    member: 'm-a',
    detail: "the peer's certificate is no longer trusted",
  });
  t.match(await peerA.next('unreachable', ({ detail }) => /may not trust/.test(detail)), { member: 'm-b' });
  t.equal(peerB.transport.stats().inboundStreams, 0);
});

t.test('a new certificate that the peer does not trust yet leaves the old connection', async (t) => {
  const [old, next] = [await testAuthority(t), await testAuthority(t)];
  const both = `${old.pem}${next.pem}`;
  const [oldA, filesB] = [await nodeFiles(old, 'a'), await nodeFiles(old, 'b')];
  const files = { a: oldA, b: filesB };
  const time = new VirtualTime();
  let failures = 0;
  const timers = {
    after: (delayMs: number, run: () => void): (() => void) => {
      if (delayMs === renewalRetryMs) failures += 1;
      return time.after(delayMs, run);
    },
  };
  const peerA = await startPeer(t, { ...a, files: () => ok(files.a), timers });
  const peerB = await startPeer(t, { ...b, files: () => ok(files.b) });
  peerA.meet(peerB);
  await peerA.next('connected');

  files.a = await nodeFiles(next, 'a', both);
  t.ok(peerA.transport.reloadTls().ok);
  await until(() => failures === 1);
  await heard(peerA, peerB, 1);
  t.strictSame(peerA.pending, [], 'which is nothing to speak of at first');
  time.advance(renewalTroubleMs);
  t.match(await peerA.next('tlsReload'), {
    problem:
      /^no new connection to b yet, its old one is used: .*it may not trust our certificate$|no connection within/,
  });
  time.advance(2 * renewalTroubleMs);
  // Another attempt has just begun.
  const before = failures;
  await heard(peerA, peerB, 2);
  t.strictSame(peerA.pending, [], 'told once, and nothing lost');

  await until(() => failures > before);
  files.b = { ...filesB, ca: both };
  t.ok(peerB.transport.reloadTls().ok);
  time.advance(renewalRetryMs);
  await peerA.next('connected');
  await heard(peerA, peerB, 3);
  await until(() => peerB.transport.stats().inboundConnections === 1);
  const told = peerA.pending.length;
  time.advance(connectTimeoutMs + renewalTroubleMs);
  await heard(peerA, peerB, 4);
  t.equal(peerA.pending.length, told, 'and that is the end of it');
});

t.test('an old connection that ends is followed by a new one with the new certificates', async (t) => {
  const [old, next] = [await testAuthority(t), await testAuthority(t)];
  const filesB = await nodeFiles(old, 'b');
  const files = { a: await nodeFiles(old, 'a') };
  const peerA = await startPeer(t, { ...a, files: () => ok(files.a) });
  const first = await startPeer(t, { ...b, files: filesB });
  peerA.meet(first);
  await peerA.next('connected');
  files.a = await nodeFiles(next, 'a', old.pem);
  t.ok(peerA.transport.reloadTls().ok);
  await heard(peerA, first, 1);
  await first.transport.close();
  await peerA.next('unreachable');
  const { port } = first.transport;
  const second = await startPeer(t, { ...b, files: { ...filesB, ca: next.pem }, port });
  await peerA.next('connected');
  await heard(peerA, second, 2);
});

t.test(
  'an old connection that is lost beside attempts at a new one is followed by a new one at once',
  async (t) => {
    const [old, next] = [await testAuthority(t), await testAuthority(t)];
    const filesB = await nodeFiles(old, 'b');
    const files = { a: await nodeFiles(old, 'a') };
    const time = new VirtualTime();
    let failures = 0;
    const timers = {
      after: (delayMs: number, run: () => void): (() => void) => {
        if (delayMs === renewalRetryMs) failures += 1;
        return time.after(delayMs, run);
      },
    };
    const peerA = await startPeer(t, { ...a, files: () => ok(files.a), timers });
    const first = await startPeer(t, { ...b, files: filesB });
    const second = await startPeer(t, { ...b, files: { ...filesB, ca: next.pem } });
    const proxy = await startTcpProxy(t, first.transport.port);
    peerA.transport.setMembers([{ ...b, address: proxy.address }]);
    await peerA.next('connected');
    files.a = await nodeFiles(next, 'a', old.pem);
    t.ok(peerA.transport.reloadTls().ok);
    await until(() => failures === 1);
    proxy.leadTo(second.transport.port);
    await first.transport.close();
    await peerA.next('unreachable');
    // No time goes by: neither the next attempt nor any other pause is due.
    await peerA.next('connected');
    await heard(peerA, second, 1);
  },
);

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
