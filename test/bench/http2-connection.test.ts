import { once } from 'node:events';
import { createServer, type ServerHttp2Session, type ServerHttp2Stream, type Settings } from 'node:http2';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { Http2Connection } from '../../bench/driver/http2-connection.js';
import { RequestSigner } from '../../bench/driver/prepared-requests.js';

const streams = 3;

/** A server, a connection to it, and how often that has said that it is free. */
async function connected(t: Test, settings: Settings, onStream: (stream: ServerHttp2Stream) => void) {
  const server = createServer({ settings });
  const sessions: ServerHttp2Session[] = [];
  server.on('session', (session) => sessions.push(session));
  server.on('stream', onStream);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  let free = 0;
  let waiting: { readonly count: number; readonly resolve: () => void } | null = null;
  const connection = await Http2Connection.connect<number>({ url, ca: null }, streams, {
    answered: () => {},
    failed: () => {},
    free: () => {
      free += 1;
      if (waiting !== null && free >= waiting.count) waiting.resolve();
    },
  });
  t.teardown(() => {
    connection.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  const access = {
    uriPathPrefix: 'p',
    keyId: 'k',
    region: 'r',
    accessKeyId: 'A'.repeat(26),
    secretAccessKey: 's',
  };
  const signer = new RequestSigner(access, url, '2');
  const { wire } = signer.prepare('decrypt', { plaintext: '', aad: '' }, Buffer.from('{}'), 0);
  return {
    sessions,
    /** How many of `count` requests it takes. */
    take: (count: number): number =>
      Array.from({ length: count }, (_, index) => connection.send(index, wire)).filter(Boolean).length,
    freed: (count: number): Promise<void> =>
      new Promise((resolve) => {
        waiting = { count, resolve };
        if (free >= count) resolve();
      }),
  };
}

t.test('closed while it was free, it takes no more than before', async (t) => {
  const { sessions, take, freed } = await connected(t, {}, () => {});
  await freed(streams);
  sessions[0]?.destroy();
  await freed(2 * streams);
  t.equal(take(2 * streams), streams);
});

t.test('no more is on the way than the server lets it', async (t) => {
  const { take, freed } = await connected(t, { maxConcurrentStreams: 2 }, (stream) => {
    stream.respond({ ':status': 200 }, { endStream: true });
  });
  await freed(streams);
  t.equal(take(1), 1);
  // Answered: what the server allows has come before that.
  await freed(streams + 1);
  t.equal(take(streams), 2);
});
