import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import t from 'tap';
import type { Connection } from '../../bench/driver/connection.js';
import { Http1Connection } from '../../bench/driver/http1-connection.js';

const answer = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}';

/** Accepts, and says nothing by itself. */
async function startServer() {
  const accepted: Socket[] = [];
  const server = createServer((socket) => accepted.push(socket.on('error', () => {})));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  return { accepted, server, endpoint: { url: `http://127.0.0.1:${port}`, ca: null } };
}

t.test('a connection that was closed while it was free takes one request at a time', async (t) => {
  const { accepted, server, endpoint } = await startServer();
  const free: Connection<string>[] = [];
  const answered: string[] = [];
  let changed = (): void => {};
  const connection = await Http1Connection.connect<string>(endpoint, {
    answered: (sent) => {
      answered.push(sent);
      changed();
    },
    failed: (sent, reason) => t.fail(`${sent}: ${reason}`),
    free: (one) => {
      free.push(one);
      changed();
    },
  });
  t.teardown(() => {
    connection.close();
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        changed = resolve;
      });
    }
  };
  if (accepted.length === 0) await once(server, 'connection');
  accepted[0]?.destroy();
  await until(() => free.length === 2);
  t.equal(free[0]?.send('first', Buffer.from('GET / HTTP/1.1\r\n\r\n')), true);
  t.equal(free[1]?.send('second', Buffer.from('GET / HTTP/1.1\r\n\r\n')), false);
  if (accepted.length === 1) await once(server, 'connection');
  accepted[1]?.write(answer);
  await until(() => answered.length > 0);
  t.strictSame(answered, ['first']);
});

t.test('connections that end together are all made anew', async (t) => {
  const { accepted, server, endpoint } = await startServer();
  let freed = 0;
  let changed = (): void => {};
  const events = {
    answered: () => {},
    failed: () => {},
    free: () => {
      freed += 1;
      changed();
    },
  };
  const connections = await Promise.all(
    Array.from({ length: 40 }, () => Http1Connection.connect<string>(endpoint, events)),
  );
  t.teardown(() => {
    for (const connection of connections) connection.close();
    for (const socket of accepted) socket.destroy();
    server.close();
  });
  while (accepted.length < 40) await once(server, 'connection');
  for (const socket of accepted) socket.destroy();
  while (freed < 80) {
    await new Promise<void>((resolve) => {
      changed = resolve;
    });
  }
  t.pass('all are back');
});
