import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type TLSSocket } from 'node:tls';
import t from 'tap';
import { signRequest } from '../../src/sigv4/sign.js';
import { eventually, isAlive, metadata, type RunningNode, startNode } from '../support/running-node.js';

async function open(running: RunningNode): Promise<TLSSocket> {
  const { hostname, port } = new URL(running.node.description.url);
  const socket = connect({
    host: hostname,
    port: Number(port),
    ca: readFileSync(running.caFile),
    ALPNProtocols: ['http/1.1'],
  });
  await once(socket, 'secureConnect');
  return socket;
}

/** A signed encrypt, as bytes on the wire. */
function signedEncrypt(running: RunningNode): { readonly head: string; readonly body: string } {
  const host = new URL(running.node.description.url).host;
  const target = `/${running.uriPathPrefix}/kms/xks/v1/keys/key-1/encrypt`;
  const body = JSON.stringify({
    requestMetadata: metadata,
    plaintext: 'AAAA',
    encryptionAlgorithm: 'AES_GCM',
  });
  const signed = signRequest(
    { method: 'POST', target, authority: host, headers: [['host', host]], body: Buffer.from(body) },
    {
      nowMs: Date.now(),
      region: 'us-east-1',
      service: 'kms-xks-proxy',
      accessKeyId: running.accessKeyId,
      secretAccessKey: Buffer.from(running.secretAccessKey),
    },
  );
  const headers = [...signed, ['content-length', String(body.length)] as const].map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  return { head: `POST ${target} HTTP/1.1\r\nhost: ${host}\r\n${headers.join('')}\r\n`, body };
}

async function answerOf(socket: TLSSocket): Promise<string> {
  let text = '';
  for await (const chunk of socket) {
    text += String(chunk);
    if (text.endsWith('}')) break;
  }
  return text;
}

const healthOf = (running: RunningNode): Promise<number> =>
  fetch(running.node.description.healthUrl, { headers: { connection: 'close' } }).then(
    ({ status }) => status,
    () => 0,
  );

t.test('X-H4 SIGTERM: the health check fails first, what is in flight finishes, the exit is 0', async (t) => {
  // As long as a busy machine may take for what follows. A second SIGTERM, below, ends it.
  const running = await startNode(t, { drainSeconds: 60 });
  const { pid } = running.node.description;
  const inFlight = await open(running);
  await eventually('it is healthy', async () => (await healthOf(running)) === 200);
  const { head, body } = signedEncrypt(running);
  inFlight.write(head + body.slice(0, 10));

  process.kill(pid, 'SIGTERM');
  await eventually('the health check fails', async () => (await healthOf(running)) === 503);
  inFlight.write(body.slice(10));
  t.match(await answerOf(inFlight), /^HTTP\/1\.1 200/, 'what was in flight is answered');
  const late = await open(running);
  const second = signedEncrypt(running);
  late.write(second.head + second.body);
  const lateAnswer = await answerOf(late);
  t.match(lateAnswer, /^HTTP\/1\.1 200/, 'still accepting while the balancer notices');
  t.match(lateAnswer, /connection: close/i);

  for (const socket of [inFlight, late]) socket.destroy();
  process.kill(pid, 'SIGTERM');
  t.equal(await running.node.exitCode, 0);
  await eventually('it is gone', () => !isAlive(pid));
});
