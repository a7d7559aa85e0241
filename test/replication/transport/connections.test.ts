import { once } from 'node:events';
import { connect as connectHttp2 } from 'node:http2';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { Server, ServerCredentials, type ServerReadableStream } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import type { PeerMessage } from '../../../src/replication/peer-message.js';
import {
  closingMsMax,
  connectionsPerCertificateMax,
  connectTimeoutMs,
  controlFramesMax,
  controlFramesWindowMs,
  inboundConnectionsMax,
  outboundBytesMax,
  outboundMessagesMax,
} from '../../../src/replication/transport/limits.js';
import type { PeerTlsFiles } from '../../../src/replication/transport/peer-credentials.js';
import { peerService } from '../../../src/replication/transport/peer-service.js';
import { clientPreface, frame, frameType } from '../../support/http2-frames.js';
import { VirtualTime } from '../../support/virtual-time.js';
import { heartbeat, nodeFiles, startPeer, type TestPeer, testAuthority } from './peers.js';
import { startTcpProxy } from './tcp-proxy.js';

const a = { memberId: 'm-a', name: 'a' };
const b = { memberId: 'm-b', name: 'b' };

/** Lets sockets get on with it until `happened`. */
async function until(happened: () => boolean): Promise<void> {
  while (!happened()) await new Promise<void>((resolve) => void setImmediate(resolve));
}

t.test('a peer that restarts is found again', async (t) => {
  const authority = await testAuthority(t);
  const filesB = await nodeFiles(authority, 'b');
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const first = await startPeer(t, { ...b, files: filesB });
  peerA.meet(first);
  await peerA.next('connected');
  await first.transport.close();
  await peerA.next('unreachable');
  t.equal(peerA.transport.stats().peers[0]?.connected, false);
  await peerA.next('unreachable', ({ detail }) => /ECONNREFUSED/.test(detail));
  peerA.transport.send('m-b', heartbeat(peerA, first));
  t.equal(peerA.transport.stats().dropped.raft, 1, 'nothing is kept for a peer that is gone');

  const second = await startPeer(t, { ...b, files: filesB, port: first.transport.port });
  await peerA.next('connected');
  peerA.transport.send('m-b', heartbeat(peerA, second, 9));
  t.match(await second.next('message'), { message: { message: { commitIndex: 9 } } });
});

t.test('a peer behind which the line went dead is unreachable, and found again', async (t) => {
  const authority = await testAuthority(t);
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const proxy = await startTcpProxy(t, peerB.transport.port);
  peerA.transport.setMembers([{ ...b, address: proxy.address }]);
  await peerA.next('connected');
  proxy.silence();
  t.match(await peerA.next('unreachable'), { member: 'm-b' });
  // The next attempt gets a TCP connection and then silence.
  t.match(await peerA.next('unreachable', ({ detail }) => detail.startsWith('no connection within')), {
    member: 'm-b',
  });
  proxy.resume();
  await peerA.next('connected');
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
});

t.test('an attempt that hears nothing is given up, and its socket with it', async (t) => {
  const authority = await testAuthority(t);
  const time = new VirtualTime();
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a'), timers: time });
  const mute = createServer();
  mute.listen(0, '127.0.0.1');
  await once(mute, 'listening');
  t.teardown(() => mute.close());
  const { port } = mute.address() as AddressInfo;
  const accepted = once(mute, 'connection') as Promise<[Socket]>;
  peerA.transport.setMembers([{ ...b, address: `127.0.0.1:${port}` }]);
  const [socket] = await accepted;
  socket.resume();
  socket.on('error', () => {});
  const next = once(mute, 'connection') as Promise<[Socket]>;
  const closed = once(socket, 'close');
  time.advance(connectTimeoutMs);
  t.match(await peerA.next('unreachable'), { detail: `no connection within ${connectTimeoutMs} ms` });
  await closed;
  const [again] = await next;
  again.on('error', () => {});
  const ended = once(again, 'close');
  again.resume();
  await peerA.transport.close();
  await ended;
});

t.test('an attempt that hears nothing is given up after others were refused, too', async (t) => {
  const authority = await testAuthority(t);
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const gone = createServer();
  gone.listen(0, '127.0.0.1');
  await once(gone, 'listening');
  const { port } = gone.address() as AddressInfo;
  gone.close();
  await once(gone, 'close');
  peerA.transport.setMembers([{ ...b, address: `127.0.0.1:${port}` }]);
  for (let refused = 0; refused < 3; refused++)
    await peerA.next('unreachable', ({ detail }) => /ECONNREFUSED/.test(detail));
  const mute = createServer((socket) => {
    socket.resume();
    socket.on('error', () => {});
  });
  mute.listen(port, '127.0.0.1');
  t.teardown(() => mute.close());
  const detail = `no connection within ${connectTimeoutMs} ms`;
  t.match(await peerA.next('unreachable', (event) => event.detail === detail), { member: 'm-b' });
});

/** A server that takes the stream and reads nothing of it, while its TLS and HTTP/2 go on. */
async function startStalledPeer({ ca, certificate, key }: PeerTlsFiles) {
  const server = new Server();
  const streams: ServerReadableStream<Buffer, Buffer>[] = [];
  server.addService(peerService, {
    exchange: (stream: ServerReadableStream<Buffer, Buffer>) => {
      streams.push(stream);
      stream.sendMetadata(stream.metadata);
    },
  });
  const pair = { private_key: Buffer.from(key), cert_chain: Buffer.from(certificate) };
  const credentials = ServerCredentials.createSsl(Buffer.from(ca), [pair], true);
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', credentials, (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  );
  return { port, streams, close: () => server.forceShutdown() };
}

t.test('what waits for a peer that does not read is bounded, in bytes and in number', async (t) => {
  const authority = await testAuthority(t);
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const stalled = await startStalledPeer(await nodeFiles(authority, 'b'));
  t.teardown(() => stalled.close());
  peerA.transport.setMembers([{ ...b, address: `127.0.0.1:${stalled.port}` }]);
  await peerA.next('connected');
  const proposal = (bytes: number): PeerMessage => ({
    kind: 'propose',
    proposalId: 'p',
    entryKind: 'command',
    command: Buffer.alloc(bytes),
  });
  const mebibyte = 1024 * 1024;
  for (let sent = 0; sent < 2 * outboundBytesMax; sent += mebibyte)
    peerA.transport.send('m-b', proposal(mebibyte));
  t.match(await peerA.next('unreachable'), { member: 'm-b', detail: 'the queue is full' });
  const [full] = peerA.transport.stats().peers;
  t.ok(full !== undefined && full.queuedBytes <= outboundBytesMax && full.queuedBytes > outboundBytesMax / 2);
  t.equal(full?.connected, true, 'and the connection stays');
  t.ok(peerA.transport.stats().dropped.propose >= 16);

  for (let sent = 0; sent < 2 * outboundMessagesMax; sent++) peerA.transport.send('m-b', proposal(1));
  t.equal(peerA.transport.stats().peers[0]?.queuedMessages, outboundMessagesMax);

  // Once it reads, all that was taken arrives.
  const [stream] = stalled.streams;
  if (stream === undefined) throw new Error('no stream');
  const taken =
    (outboundBytesMax / mebibyte) * 2 + 2 * outboundMessagesMax - peerA.transport.stats().dropped.propose;
  let arrived = 0;
  await new Promise<void>((resolve) => {
    stream.on('data', () => {
      arrived += 1;
      if (arrived === taken) resolve();
    });
  });
  t.match(peerA.transport.stats(), {
    sent: { propose: taken },
    peers: [{ queuedMessages: 0, queuedBytes: 0 }],
  });
});

t.test('a message that no peer would take is not sent', async (t) => {
  const authority = await testAuthority(t);
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  peerA.meet(peerB);
  await peerA.next('connected');
  const command = Buffer.alloc(4 * 1024 * 1024);
  peerA.transport.send('m-b', { kind: 'propose', proposalId: 'p', entryKind: 'command', command });
  t.match(await peerA.next('unreachable'), { detail: /^a propose message of 41943\d\d bytes$/ });
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
  t.match(peerA.transport.stats(), { dropped: { propose: 1 }, sent: { propose: 0, raft: 1 } });
});

t.test('members come, move and go', async (t) => {
  const authority = await testAuthority(t);
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  const filesB = await nodeFiles(authority, 'b');
  const here = await startPeer(t, { ...b, files: filesB });
  const there = await startPeer(t, { ...b, files: filesB });
  peerA.transport.send('m-b', heartbeat(peerA, here));
  t.match(peerA.transport.stats(), { dropped: { raft: 1 }, peers: [] }, 'a stranger gets nothing');
  peerA.meet(here);
  peerA.transport.send('m-b', heartbeat(peerA, here, 1));
  await here.next('message');
  peerA.meet(here);
  t.equal(peerA.transport.stats().peers[0]?.connected, true, 'the same members again change nothing');
  peerA.meet(there);
  peerA.transport.send('m-b', heartbeat(peerA, there, 2));
  t.match(await there.next('message'), { message: { message: { commitIndex: 2 } } });
  peerA.transport.setMembers([{ ...b, address: `localhost:${here.transport.port}` }]);
  peerA.transport.send('m-b', heartbeat(peerA, here, 3));
  t.match(await here.next('message'), { message: { message: { commitIndex: 3 } } }, 'by name, too');
  peerA.meet();
  t.strictSame(peerA.transport.stats().peers, []);
  peerA.transport.setMembers([{ ...b, address: 'nowhere' }]);
  t.match(await peerA.next('unreachable'), { member: 'm-b', detail: '"nowhere" is not "HOST:PORT"' });
});

t.test('connections that say nothing are bounded, and keep no member out', async (t) => {
  const authority = await testAuthority(t);
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const sockets = Array.from({ length: inboundConnectionsMax + 3 }, () =>
    connect({ host: '127.0.0.1', port: peerB.transport.port }),
  );
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const closed: number[] = [];
  await new Promise<void>((resolve) => {
    for (const [place, socket] of sockets.entries()) {
      socket.resume();
      socket.on('error', () => {});
      socket.on('close', () => {
        // Not those that the handshake's time limit ends, of which there would be too many.
        if (closed.length < 3) t.ok(peerB.transport.stats().inboundConnections <= inboundConnectionsMax);
        closed.push(place);
        if (closed.length === 3) resolve();
      });
    }
  });
  const peerA = await startPeer(t, { ...a, files: await nodeFiles(authority, 'a') });
  peerA.meet(peerB);
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
  t.ok(closed.length < inboundConnectionsMax, 'the others were there still');
});

t.test('a flood from one address keeps out nobody who comes from another', async (t) => {
  const authority = await testAuthority(t);
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const files = await nodeFiles(authority, 'a');
  const { port } = peerB.transport;
  const first = connect({ host: '127.0.0.1', port });
  t.teardown(() => first.destroy());
  await once(first, 'connect');
  let lost = 0;
  const flood = Array.from({ length: 2 * inboundConnectionsMax }, () =>
    connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' })
      .on('error', () => {})
      .on('close', () => {
        lost += 1;
      })
      .resume(),
  );
  t.teardown(() => {
    for (const socket of flood) socket.destroy();
  });
  await until(() => lost > inboundConnectionsMax);
  // It has been here longest, and its handshake only begins now.
  const { ca, certificate: cert, key } = files;
  const secured = connectTls({ socket: first, ca, cert, key, servername: 'b', ALPNProtocols: ['h2'] });
  await once(secured, 'secureConnect');
  // The server's HTTP/2 settings: it is in.
  await once(secured, 'data');
  t.equal(secured.alpnProtocol, 'h2');
});

/** A peer that speaks HTTP/2 frame by frame, and never ends its side of the connection. */
async function framesTo(t: Test, peer: TestPeer, files: PeerTlsFiles): Promise<TLSSocket> {
  const { ca, certificate: cert, key } = files;
  const { port } = peer.transport;
  const tlsOptions = { ca, cert, key, servername: peer.name, ALPNProtocols: ['h2'], allowHalfOpen: true };
  const socket = connectTls({ ...tlsOptions, host: '127.0.0.1', port });
  socket.on('error', () => {});
  t.teardown(() => socket.destroy());
  await once(socket, 'secureConnect');
  socket.write(Buffer.concat([clientPreface, frame(frameType.settings, 0, 0, Buffer.alloc(0))]));
  await once(socket, 'data');
  socket.resume();
  return socket;
}

t.test('a peer that floods us with frames of no stream is cut off', async (t) => {
  const authority = await testAuthority(t);
  const time = new VirtualTime();
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b'), timers: time });
  const filesA = await nodeFiles(authority, 'a');
  const ping = frame(frameType.ping, 0, 0, Buffer.alloc(8));
  for (const flooded of [ping, frame(frameType.settings, 0, 0, Buffer.alloc(0))]) {
    const socket = await framesTo(t, peerB, filesA);
    const some = Buffer.concat(Array.from({ length: controlFramesMax - 1 }, () => flooded));
    const answered = async (): Promise<void> => {
      for (let pongs = 0; pongs < some.byteLength; ) pongs += (await once(socket, 'data'))[0].byteLength;
    };
    let heard = answered();
    socket.write(some);
    await heard;
    time.advance(controlFramesWindowMs);
    heard = answered();
    socket.write(some);
    await heard;
    t.equal(peerB.transport.stats().inboundConnections, 1, 'as many each while are taken');
    socket.write(Buffer.concat([flooded, flooded]));
    await until(() => peerB.transport.stats().inboundConnections === 0);
  }
});

t.test('a connection that has ended here leaves its place, whether the peer ends it or not', async (t) => {
  const authority = await testAuthority(t);
  const time = new VirtualTime();
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b'), timers: time });
  const socket = await framesTo(t, peerB, await nodeFiles(authority, 'a'));
  const ended = once(socket, 'end');
  const noError = Buffer.alloc(8);
  socket.write(frame(frameType.goaway, 0, 0, noError));
  await ended;
  t.equal(peerB.transport.stats().inboundConnections, 1, 'the peer may end it');
  await until(() => time.pending > 1);
  time.advance(closingMsMax);
  await until(() => peerB.transport.stats().inboundConnections === 0);
  t.notOk(socket.writableEnded, 'and has not');
});

t.test('one certificate does not fill the room of the others', async (t) => {
  const authority = await testAuthority(t);
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const files = await nodeFiles(authority, 'a');
  const tlsOptions = { ca: files.ca, cert: files.certificate, key: files.key, ALPNProtocols: ['h2'] };
  const sessions = Array.from({ length: connectionsPerCertificateMax + 2 }, () =>
    connectHttp2('https://127.0.0.1', {
      createConnection: () =>
        connectTls({ ...tlsOptions, host: '127.0.0.1', port: peerB.transport.port, servername: 'b' }),
    }),
  );
  t.teardown(() => {
    for (const session of sessions) session.destroy();
  });
  const closed = sessions.map((session) =>
    once(
      session.on('error', () => {}),
      'close',
    ),
  );
  await Promise.race(closed);
  await Promise.race(closed.slice(1));
  t.ok(peerB.transport.stats().inboundConnections <= connectionsPerCertificateMax + 1);
  const peerA = await startPeer(t, { ...a, files });
  peerA.meet(peerB);
  peerA.transport.send('m-b', heartbeat(peerA, peerB));
  await peerB.next('message');
});

t.test('a connection that says nothing is closed, and leaves its place', async (t) => {
  const authority = await testAuthority(t);
  const peerB = await startPeer(t, { ...b, files: await nodeFiles(authority, 'b') });
  const socket = connect({ host: '127.0.0.1', port: peerB.transport.port });
  t.teardown(() => socket.destroy());
  await once(socket.resume(), 'close');
  while (peerB.transport.stats().inboundConnections > 0)
    await new Promise((resolve) => setImmediate(resolve));
});

t.test('an address that is taken is an error that says so', async (t) => {
  const authority = await testAuthority(t);
  const files = await nodeFiles(authority, 'a');
  const peerA = await startPeer(t, { ...a, files });
  await t.rejects(
    startPeer(t, { ...a, files, port: peerA.transport.port }),
    /cannot listen for members on 127\.0\.0\.1:\d+: .*EADDRINUSE/,
  );
});
