import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { childrenOf, metadata, startNode } from '../support/running-node.js';

/** Every file below a folder, with its content. */
function contents(directory: string): readonly { readonly path: string; readonly bytes: Buffer }[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile())
    .map((path) => ({ path, bytes: readFileSync(path) }));
}

t.test(
  'X-E1 X-D1 X-M2 no PIN, secret access key or plaintext reaches a log, an error or the disk',
  async (t) => {
    const running = await startNode(t, { logLevel: 'debug', tracePkcs11: true });
    const { node, client } = running;
    const plaintext = Buffer.from('the-plaintext-of-a-data-key-0123');
    const encrypted = await client.call('/keys/key-1/encrypt', {
      requestMetadata: metadata,
      plaintext: plaintext.toString('base64'),
      encryptionAlgorithm: 'AES_GCM',
      ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
    });
    const decrypt = { requestMetadata: metadata, encryptionAlgorithm: 'AES_GCM', ...encrypted };
    t.equal((await client.call('/keys/key-1/decrypt', decrypt))['plaintext'], plaintext.toString('base64'));
    const errors: string[] = [];
    for (const broken of [
      { ...decrypt, authenticationTag: Buffer.alloc(16).toString('base64') },
      {
        requestMetadata: metadata,
        plaintext: `${plaintext.toString('base64')}!`,
        encryptionAlgorithm: 'AES_GCM',
      },
      { requestMetadata: { ...metadata, kmsRequestId: 7 }, plaintext: plaintext.toString('base64') },
    ]) {
      await client
        .call('/keys/key-1/decrypt', broken)
        .catch((failure: unknown) => errors.push(String(failure)));
      await client
        .call('/keys/key-1/encrypt', broken)
        .catch((failure: unknown) => errors.push(String(failure)));
    }
    t.equal(errors.length, 6);
    const said: string[] = [];
    for (const args of [
      ['status'],
      ['keystore', 'list'],
      ['credential', 'list', 'test'],
      ['credential', 'retire', running.accessKeyId],
      ['key', 'list', 'test'],
      ['hsm', 'list'],
      ['hsm', 'prepare'],
      ['key', 'generate', 'test', 'key-1'],
    ]) {
      for (const format of ['json', 'text']) {
        const { stdout, stderr } = await running.xksctl('-o', format, ...args);
        said.push(stdout, stderr);
      }
    }
    const metrics = await fetch(node.description.metricsUrl).then((answer) => answer.text());
    const { pid } = node.description;
    for (const process_ of [pid, ...childrenOf(pid)]) {
      t.match(readFileSync(`/proc/${process_}/limits`, 'utf8'), /Max core file size\s+0\s+0/, 'no core dump');
      said.push(readFileSync(`/proc/${process_}/cmdline`, 'utf8'));
    }
    await node.stop();

    const secrets = {
      pin: Buffer.from(running.pin),
      'secret access key': Buffer.from(running.secretAccessKey),
      plaintext,
    };
    const places = [
      ...contents(join(running.directory, 'node-1')),
      ...[...errors, ...said, metrics].map((text) => ({ path: 'output', bytes: Buffer.from(text) })),
    ];
    t.ok(
      places.some(({ path, bytes }) => path === node.logFile && bytes.includes('"kmsRequestId"')),
      'there is a log to search',
    );
    const traced = readFileSync(node.logFile, 'utf8').matchAll(
      /"process":"serving-\d+".*"function":"(C_\w+)"/g,
    );
    const functions = new Set([...traced].map(([, name]) => name));
    for (const name of ['C_Login', 'C_Encrypt', 'C_Decrypt', 'C_GenerateKey'])
      t.ok(functions.has(name), name);
    t.ok(
      places.some(({ path }) => path.startsWith(node.description.dataDir)),
      'there is a data directory to search',
    );
    for (const [name, secret] of Object.entries(secrets)) {
      for (const form of [secret, secret.toString('base64').replace(/=+$/, ''), secret.toString('hex')]) {
        t.strictSame(
          places.filter(({ bytes }) => bytes.includes(form)).map(({ path }) => path),
          [],
          `${name}, also in Base64 and hexadecimal`,
        );
      }
    }
  },
);
