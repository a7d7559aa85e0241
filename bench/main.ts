import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { Pool } from 'undici';
import { signRequest } from '../src/sigv4/sign.js';
import { AdminWrites } from './admin-writes.js';
import { CpuTotals, nodeCpu } from './node-cpu.js';
import { type OpenLoopResult, openLoop, percentile } from './open-loop.js';

/**
 * `npm run bench`: is the rate that KMS may send to one key store answered, in time and without an error? Starts the
 * demo's nodes in processes of their own and drives the first from here: half Encrypt with an integrity value, half
 * Decrypt. With `--writes`, half of the time an operator changes key state meanwhile, for the comparison in one run.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const directory = join(root, 'var/bench');
const startTimeoutMs = 60_000;
/** KMS gives up after this (X-T5). */
const kmsTimeoutMs = 250;
const warmUpSeconds = 3;

/** Without writes and with them, in turn: what a shared machine does besides then falls on both. */
const turns = 6;

const command = new Command('bench')
  .option('--rate <requests per second>', 'scheduled send rate', Number, 1_800)
  .option('--duration <seconds>', 'measured time, warm-up apart', Number, 60)
  .option('--connections <count>', 'HTTP/1.1 connections', Number, 32)
  .option(
    '--writes <per second>',
    'changes of key state during every other sixth of the time; 0: how far two such halves differ by themselves',
    Number,
  );
const options = command
  .parse()
  .opts<{ rate: number; duration: number; connections: number; writes?: number }>();
for (const [name, value] of Object.entries(options)) {
  if (!(value > 0 || (name === 'writes' && value === 0))) {
    command.error(`error: --${name} must be a number above 0`);
  }
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
  const load = (seconds: number): Promise<OpenLoopResult> =>
    openLoop({ rate: options.rate, durationSeconds: seconds, inFlightMax }, send);
  console.log(
    `${options.rate} requests/s for ${options.duration} s over ${options.connections} connections (HTTP/1.1, TLS)`,
  );
  const good =
    options.writes === undefined
      ? report('', [await load(options.duration)])
      : await compare(options.writes, load, env('XKSD_ADMIN_SOCKET'));
  await close();
  console.log(
    good
      ? 'PASS: no error, nothing dropped, p99 under 250 ms'
      : 'FAIL: wants no error, nothing dropped, p99 under 250 ms',
  );
  return good;
}

const latencyOf = (results: readonly OpenLoopResult[]): ((fraction: number) => number) => {
  const all = Float64Array.from(results.flatMap(({ latenciesMs }) => [...latenciesMs])).sort();
  return (fraction) => percentile(all, fraction);
};

/** @returns whether the results are as KMS needs them. */
function report(what: string, results: readonly OpenLoopResult[]): boolean {
  const at = latencyOf(results);
  const failures = results.flatMap((result) => Object.entries(result.failures));
  const failed = failures.reduce((sum, [, count]) => sum + count, 0);
  const sent = results.reduce((sum, result) => sum + result.sent, 0);
  const dropped = results.reduce((sum, result) => sum + result.dropped, 0);
  console.log(`${what}sent ${sent}, failed ${failed}, dropped ${dropped}`);
  console.log(
    `${what}latency from the scheduled time, ms: p50 ${at(0.5).toFixed(2)}  p99 ${at(0.99).toFixed(2)}  p99.9 ${at(0.999).toFixed(2)}  max ${at(1).toFixed(2)}`,
  );
  for (const [failure, count] of failures) console.log(`  ${count} × ${failure}`);
  return failed === 0 && dropped === 0 && at(0.99) < kmsTimeoutMs;
}

/** What changes of key state cost those who are served meanwhile. */
async function compare(
  rate: number,
  load: (seconds: number) => Promise<OpenLoopResult>,
  adminSocket: string,
): Promise<boolean> {
  const writes = await AdminWrites.start(adminSocket);
  const [without, among]: [OpenLoopResult[], OpenLoopResult[]] = [[], []];
  const [cpuWithout, cpuAmong] = [new CpuTotals(), new CpuTotals()];
  const look = (): ReturnType<typeof nodeCpu> => nodeCpu(join(directory, 'nodes.json'));
  let made = 0;
  for (let turn = 0; turn < turns; turn += 2) {
    const first = look();
    without.push(await load(options.duration / turns));
    const second = look();
    if (rate > 0) writes.begin(rate);
    among.push(await load(options.duration / turns));
    if (rate > 0) made += await writes.end();
    cpuWithout.add(first, second);
    cpuAmong.add(second, look());
  }
  writes.close();
  const good = [report('without writes: ', without), report(`with ${made} writes: `, among)];
  const [before, after] = [latencyOf(without), latencyOf(among)];
  const ratio = (fraction: number): string => (after(fraction) / before(fraction)).toFixed(2);
  console.log(`with/without: p50 ${ratio(0.5)}  p99 ${ratio(0.99)}  p99.9 ${ratio(0.999)}`);
  console.log('processor time, ms a second without and with writes, and what a write costs:');
  for (const [process, ms] of cpuAmong.ms) {
    const base = cpuWithout.ms.get(process) ?? 0;
    const perSecond = (total: number): string => ((2 * total) / options.duration).toFixed(0).padStart(6);
    const perWrite = made === 0 ? '' : `  ${((ms - base) / made).toFixed(2).padStart(6)} ms a write`;
    console.log(`  ${process.padEnd(18)}${perSecond(base)}${perSecond(ms)}${perWrite}`);
  }
  return good.every(Boolean);
}

const demo = await startNode();
try {
  process.exitCode = (await run()) ? 0 : 1;
} finally {
  const ended = demo.exitCode === null ? new Promise((resolve) => demo.once('exit', resolve)) : null;
  demo.kill('SIGTERM');
  await ended;
}
