import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { Pool } from 'undici';
import { signRequest } from '../src/sigv4/sign.js';
import { openLoop, percentile } from './open-loop.js';

/**
 * `npm run bench`: is the rate that KMS may send to one key store answered, in time and without an error? Starts the
 * demo's node in processes of its own and drives it from here: half Encrypt with an integrity value, half Decrypt.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const directory = join(root, 'var/bench');
const startTimeoutMs = 60_000;
/** KMS gives up after this (X-T5). */
const kmsTimeoutMs = 250;
const warmUpSeconds = 3;

const command = new Command('bench')
  .option('--rate <requests per second>', 'scheduled send rate', Number, 1_800)
  .option('--duration <seconds>', 'measured time, warm-up apart', Number, 60)
  .option('--connections <count>', 'HTTP/1.1 connections', Number, 32);
const options = command.parse().opts<{ rate: number; duration: number; connections: number }>();
for (const [name, value] of Object.entries(options)) {
  if (!(value > 0)) command.error(`error: --${name} must be a number above 0`);
}

async function startNode(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [join(root, 'dist/src/demo/main.js'), '--directory', directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  const ready = new Promise<void>((resolve, reject) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      if (output.includes('Running.')) resolve();
    });
    child.once('exit', (code) => reject(new Error(`the demo ended with ${code}:\n${output}`)));
  });
  const timeout = new AbortController();
  await Promise.race([
    ready,
    delay(startTimeoutMs, undefined, { signal: timeout.signal }).then(() => {
      throw new Error(`the demo was not up after ${startTimeoutMs} ms:\n${output}`);
    }),
  ]);
  timeout.abort();
  return child;
}

function readEnvironment(path: string): (name: string) => string {
  const values = new Map(
    [...readFileSync(path, 'utf8').matchAll(/^export (\w+)='(.*)'$/gm)].map(([, name = '', value = '']) => [
      name,
      value,
    ]),
  );
  return (name) => values.get(name) ?? '';
}

const requestMetadata = {
  awsPrincipalArn: 'arn:aws:iam::123456789012:user/bench',
  kmsKeyArn: 'arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000',
  kmsOperation: 'GenerateDataKey',
  kmsRequestId: '00000000-0000-0000-0000-000000000000',
};
/** A data key, and an encryption context of common size. */
const payload = { plaintext: randomBytes(32).toString('base64'), aad: randomBytes(200).toString('base64') };

function xksCaller(env: (name: string) => string): {
  call: (operation: string, body: object) => Promise<{ status: number; text: string }>;
  close: () => Promise<void>;
} {
  const host = env('XKS_PROXY_HOST');
  const pool = new Pool(`https://${host}`, {
    connections: options.connections,
    pipelining: 1,
    connect: { ca: readFileSync(env('CA_FILE'), 'utf8') },
  });
  const credential = {
    accessKeyId: env('SIGV4_ACCESS_KEY_ID'),
    secretAccessKey: Buffer.from(env('SIGV4_SECRET_ACCESS_KEY')),
    region: env('REGION'),
    service: 'kms-xks-proxy',
  };
  return {
    call: async (operation, json) => {
      const path = `/${env('URI_PREFIX')}/kms/xks/v1/keys/${env('KEY_ID')}/${operation}`;
      const body = Buffer.from(JSON.stringify({ requestMetadata, encryptionAlgorithm: 'AES_GCM', ...json }));
      const signed = signRequest(
        { method: 'POST', target: path, authority: host, headers: [['host', host]], body },
        { ...credential, nowMs: Date.now() },
      );
      const answer = await pool.request({
        path,
        method: 'POST',
        headers: { 'content-type': 'application/json', ...Object.fromEntries(signed) },
        body,
      });
      return { status: answer.statusCode, text: await answer.body.text() };
    },
    close: () => pool.close(),
  };
}

async function run(): Promise<boolean> {
  const env = readEnvironment(join(directory, 'env'));
  const { call, close } = xksCaller(env);
  const encryptBody = {
    plaintext: payload.plaintext,
    additionalAuthenticatedData: payload.aad,
    ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
  };
  const sample = await call('encrypt', encryptBody);
  if (sample.status !== 200) throw new Error(`encrypt answered ${sample.status} ${sample.text}`);
  const { ciphertext, ciphertextMetadata, initializationVector, authenticationTag } = JSON.parse(sample.text);
  const decryptBody = {
    ciphertext,
    ciphertextMetadata,
    initializationVector,
    authenticationTag,
    additionalAuthenticatedData: payload.aad,
  };
  const send = async (sequence: number): Promise<string | null> => {
    const decrypt = sequence % 2 === 1;
    const { status, text } = await (decrypt ? call('decrypt', decryptBody) : call('encrypt', encryptBody));
    if (status !== 200) return `${status} ${text}`;
    return !decrypt || text.includes(payload.plaintext) ? null : 'decrypt gave another plaintext';
  };
  const inFlightMax = options.rate;
  await openLoop({ rate: options.rate, durationSeconds: warmUpSeconds, inFlightMax }, send);
  const result = await openLoop({ rate: options.rate, durationSeconds: options.duration, inFlightMax }, send);
  await close();

  const at = (fraction: number): number => percentile(result.latenciesMs, fraction);
  const failed = Object.values(result.failures).reduce((sum, count) => sum + count, 0);
  console.log(
    `${options.rate} requests/s for ${options.duration} s over ${options.connections} connections (HTTP/1.1, TLS)`,
  );
  console.log(`sent ${result.sent}, failed ${failed}, dropped ${result.dropped}`);
  console.log(
    `latency from the scheduled time, ms: p50 ${at(0.5).toFixed(2)}  p99 ${at(0.99).toFixed(2)}  p99.9 ${at(0.999).toFixed(2)}  max ${at(1).toFixed(2)}`,
  );
  for (const [failure, count] of Object.entries(result.failures)) console.log(`  ${count} × ${failure}`);
  const good = failed === 0 && result.dropped === 0 && at(0.99) < kmsTimeoutMs;
  console.log(
    good
      ? 'PASS: no error, nothing dropped, p99 under 250 ms'
      : 'FAIL: wants no error, nothing dropped, p99 under 250 ms',
  );
  return good;
}

const demo = await startNode();
try {
  process.exitCode = (await run()) ? 0 : 1;
} finally {
  const ended = demo.exitCode === null ? new Promise((resolve) => demo.once('exit', resolve)) : null;
  demo.kill('SIGTERM');
  await ended;
}
