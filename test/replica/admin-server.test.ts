import { once } from 'node:events';
import { statSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { LogFields, Logger } from '../../src/base/logger.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { AdminServer } from '../../src/replica/admin-server.js';
import { caller, makeReplica } from './replica-at-seams.js';

interface Answer {
  readonly status: number | undefined;
  readonly allow: string | undefined;
  readonly body: unknown;
}

async function setUp(t: Test, logger?: Logger) {
  const replica = await makeReplica(t, logger === undefined ? {} : { logger });
  const socketPath = join(replica.directory, 'admin.sock');
  const native = loadNativeBinding();
  const server = new AdminServer({
    socketPath,
    api: replica.api,
    mintRequestId: () => caller().requestId,
    peerCredentials: (fd) => native.peerCredentials(fd),
  });
  t.same(await server.listen(), { ok: true, value: null });
  t.teardown(() => server.close());
  const send = async (method: string, path: string, body = ''): Promise<Answer> => {
    const sent = request({ socketPath, method, path, agent: false });
    sent.on('error', () => {});
    sent.end(body);
    const [response] = await once(sent, 'response');
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk;
    return { status: response.statusCode, allow: response.headers.allow, body: JSON.parse(text) };
  };
  return { ...replica, socketPath, send, server };
}

t.test('the socket is for its owner and its group', async (t) => {
  const { socketPath } = await setUp(t);
  t.equal(statSync(socketPath).mode & 0o777, 0o660);
});

t.test('commands come by POST, everything else is told so', async (t) => {
  const { send } = await setUp(t);
  t.match(await send('POST', '/v1/status'), { status: 200, body: { node: 'node-1' } });
  t.match(await send('POST', '/v1/status', '{}'), { status: 200 });
  t.match(await send('GET', '/v1/status'), {
    status: 405,
    allow: 'POST',
    body: { error: { code: 'bad-request' } },
  });
  t.match(await send('POST', '/'), { status: 404, body: { error: { code: 'unknown-command' } } });
  t.match(await send('POST', '/v1/'), { status: 404 });
  t.match(await send('POST', '/v1/__proto__', '{}'), { status: 404 });
  t.match(await send('POST', '/v1/keystore.show', '{"name":"none"}'), {
    status: 404,
    body: { error: { code: 'not-found' } },
  });
});

t.test('a body that is no JSON, or too long, is refused', async (t) => {
  const { send } = await setUp(t);
  const refused = { status: 400, body: { error: { code: 'bad-request' } } };
  t.match(await send('POST', '/v1/status', '{'), refused);
  t.match(await send('POST', '/v1/status', '[]'), refused);
  t.match(await send('POST', '/v1/status', 'null'), refused);
  t.match(await send('POST', '/v1/status', `{}${' '.repeat(1024 * 1024)}`), refused);
  t.match(await send('POST', '/v1/status'), { status: 200 }, 'and the next one is served');
});

t.test('who changed something is taken from the socket, not from what is sent', async (t) => {
  const uids: unknown[] = [];
  const note = (_: string, fields: LogFields = {}): void => void ('by' in fields && uids.push(fields['by']));
  const logger: Logger = { debug: note, info: note, warn: note, error: note, child: () => logger };
  const { send } = await setUp(t, logger);
  const body = JSON.stringify({ name: 'store', regions: ['us-east-1'] });
  t.match(await send('POST', '/v1/keystore.create', body), { status: 200 });
  t.same(uids, [`uid=${process.getuid?.()}`]);
});

t.test('closing waits for the command under way and for nobody who only holds a connection', async (t) => {
  const { send, socketPath, server, log, run } = await setUp(t);
  const idle = connect(socketPath);
  await once(idle, 'connect');
  const propose = log.propose.bind(log);
  let proceed = (): void => {};
  let begun = (): void => {};
  const proposed = new Promise<void>((resolve) => {
    proceed = resolve;
  });
  const underWay = new Promise<void>((resolve) => {
    begun = resolve;
  });
  log.propose = async (command) => {
    begun();
    await proposed;
    return propose(command);
  };
  const sent = send('POST', '/v1/keystore.create', JSON.stringify({ name: 'store', regions: ['us-east-1'] }));
  await underWay;
  const closed = server.close();
  proceed();
  t.match(await sent, { status: 200 });
  await closed;
  if (!idle.closed) await once(idle, 'close');
  t.match(await run('keystore.show', { name: 'store' }), { ok: true });
});

t.test('a client that goes away in the middle costs nothing', async (t) => {
  const { send, socketPath } = await setUp(t);
  const socket = connect(socketPath);
  await once(socket, 'connect');
  socket.write('POST /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{');
  socket.destroy();
  t.match(await send('POST', '/v1/status'), { status: 200 });
});
