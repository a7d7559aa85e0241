import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { LogFields } from '../../src/base/logger.js';
import { createLogger } from '../../src/ops/logging.js';
import type { HttpRequest } from '../../src/serving/http/exchange.js';
import { newTrace, type RequestTrace, requestLineFields } from '../../src/serving/request-trace.js';
import { type XksError, xksError } from '../../src/xks/errors.js';
import { type RequestMetadata, requestMetadataLogFields } from '../../src/xks/request-metadata.js';
import { notSaid } from '../support/request-metadata.js';
import { SeededRandom } from '../support/seeded-random.js';

const request: HttpRequest = {
  method: 'POST',
  target: '/p/kms/xks/v1/keys/k/encrypt',
  authority: 'xks.example.com',
  headers: [],
  body: new Uint8Array(0),
  httpVersion: '1.1',
  receivedAtMs: 0,
  remoteAddress: '192.0.2.1',
};

/** As a request has it that says no more. */
const metadataBut = (said: Partial<RequestMetadata>): RequestMetadata => ({
  kmsRequestId: 'r',
  kmsOperation: 'Encrypt',
  ...notSaid,
  ...said,
});

/** What the line must say, as ordinary logging would be told. */
function expectedFields(
  { method, target, httpVersion, remoteAddress }: HttpRequest,
  trace: RequestTrace,
  error: XksError | null,
  status: number,
  durationMs: number,
): LogFields {
  const rounded = (ms: number): number => Math.round(ms * 1_000) / 1_000;
  return {
    operation: trace.operation,
    keyStore: trace.keyStore,
    externalKeyId: trace.externalKeyId,
    outcome: error === null ? 'ok' : 'error',
    status,
    ...(error !== null && { errorName: error.errorName, errorMessage: error.errorMessage }),
    durationMs: rounded(durationMs),
    hsm: trace.hsm,
    ...(trace.hsmAskedFirst !== null && { hsmAskedFirst: trace.hsmAskedFirst }),
    hsmMs: trace.hsmMs === null ? null : rounded(trace.hsmMs),
    accessKeyId: trace.accessKeyId,
    ...(trace.authFailure !== null && { authFailure: trace.authFailure }),
    ...(trace.note !== null && { note: trace.note }),
    ...(trace.requestMetadata !== null && {
      requestMetadata: requestMetadataLogFields(trace.requestMetadata),
    }),
    ...(trace.keyStore === null && { method: method.slice(0, 16), target: target.slice(0, 256) }),
    httpVersion,
    remoteAddress,
  };
}

type Case = readonly [HttpRequest, RequestTrace, XksError | null, number, number];

/** Both writers' lines of these cases, the time taken out. */
function bothLines(t: { testdir(): string }, cases: readonly Case[]): readonly (readonly [string, string])[] {
  const path = join(t.testdir(), 'log');
  const fd = openSync(path, 'w');
  const logger = createLogger({ level: 'info', role: 'serving', slot: 3, fd });
  for (const each of cases) {
    logger.info('request', expectedFields(...each));
    logger.infoJson('request', requestLineFields(...each));
  }
  logger.flush();
  closeSync(fd);
  const lines = readFileSync(path, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"/, '"time":""'));
  return cases.map((_, at) => [lines[2 * at] ?? '', lines[2 * at + 1] ?? '']);
}

const secret = 'wJalrXUtnFEMI';

t.test('X-L2: the line of a request is what ordinary logging would have written', async (t) => {
  const requestMetadata = metadataBut({ kmsRequestId: 'r-1' });
  const served: RequestTrace = {
    ...newTrace(),
    operation: 'Encrypt',
    keyStore: 'payments',
    externalKeyId: 'key',
    accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA2',
    requestMetadata: {
      ...requestMetadata,
      awsPrincipalArn: 'arn:aws:iam::123456789012:user/Alice',
      kmsKeyArn: 'arn:aws:kms:eu-central-1:123456789012:key/1',
      awsSourceVpc: 'vpc-1',
      awsSourceVpce: 'vpce-1',
      kmsViaService: 's3',
    },
    hsm: '0123456789abcdef',
    hsmMs: 1.23456,
  };
  const failed = xksError('DependencyTimeoutException', 'No HSM is available: "token" \\ \u00e9.');
  const cases: Case[] = [
    [request, served, null, 200, 2.5],
    [request, served, null, 200, 0],
    [{ ...request, httpVersion: '2', remoteAddress: '2001:db8::1' }, served, failed, 503, 150.0004],
    [request, { ...newTrace(), operation: 'GetHealthStatus' }, failed, 503, 0.1],
    [{ ...request, method: 'X'.repeat(40), target: `/${'"'.repeat(600)}` }, newTrace(), failed, 404, 1],
    [request, { ...served, requestMetadata }, null, 200, 1],
    [request, { ...served, requestMetadata: null, note: 'the "credential" was retired' }, failed, 401, 1],
    [
      request,
      {
        ...served,
        accessKeyId: null,
        authFailure: { reason: 'date-skew', detail: 'a=b', accessKeyId: 'A', clockSkewMs: -3e5 },
      },
      failed,
      401,
      1,
    ],
    [
      request,
      { ...served, requestMetadata: { ...requestMetadata, kmsRequestId: 'x'.repeat(5_000) } },
      null,
      200,
      1,
    ],
    // X-M2: extras are named by KMS, and whoever names one like a secret does not get it into a log.
    [
      request,
      {
        ...served,
        requestMetadata: {
          ...requestMetadata,
          extras: [
            ['pin', secret],
            ['__proto__', 'x'],
            ['2', true],
            ['1', 1.5],
          ],
        },
      },
      null,
      200,
      1,
    ],
    [request, { ...served, hsm: `pkcs11:token=a?pin-value=${secret}&module-path=/x` }, null, 200, 1],
    [request, { ...served, note: `pin-value=${secret}` }, null, 200, 1],
    [
      request,
      { ...served, requestMetadata: { ...requestMetadata, kmsOperation: `pin-value=${secret}` } },
      null,
      200,
      1,
    ],
  ];
  const lines = bothLines(t, cases);
  for (const [at, [ordinary, written]] of lines.entries()) {
    t.equal(written, ordinary, `case ${at}`);
    t.notMatch(written, secret);
    t.match(JSON.parse(written), {
      level: 'info',
      process: 'serving-3',
      pid: process.pid,
      message: 'request',
    });
  }
});

t.test('X-L2: and so it is with any characters in it', async (t) => {
  const random = new SeededRandom(5);
  const characters = 'aZ0 "\\/\n\t\u0000\u001f\u007f\u0080\u00e9\u2028\ufffd=&pin-value{}[],:';
  const text = (): string => random.text(random.integer(130), characters);
  const cases = Array.from({ length: 2_000 }, (): Case => {
    const extras = random.integer(2) === 0 ? [] : ([[random.text(5, 'abpinsecret_-'), text()]] as const);
    const trace: RequestTrace = {
      ...newTrace(),
      keyStore: random.integer(2) === 0 ? null : text(),
      externalKeyId: text(),
      accessKeyId: text(),
      hsm: text(),
      hsmAskedFirst: text(),
      note: text(),
      requestMetadata: metadataBut({
        kmsRequestId: text(),
        kmsOperation: text(),
        kmsViaService: text(),
        extras,
      }),
      hsmMs: random.integer(1_000_000) / 7_000,
    };
    const error = xksError('InternalException', text());
    const given = { ...request, target: text(), method: text(), remoteAddress: text() };
    return [given, trace, error, 500, random.integer(1_000_000) / 3_000];
  });
  for (const [ordinary, written] of bothLines(t, cases)) if (written !== ordinary) t.equal(written, ordinary);
});

t.test('no line of a request below the level', async (t) => {
  const path = join(t.testdir(), 'log');
  const fd = openSync(path, 'w');
  const logger = createLogger({ level: 'warn', role: 'serving', slot: 3, fd });
  t.equal(logger.infoEnabled, false);
  logger.infoJson('request', requestLineFields(request, newTrace(), null, 200, 1));
  logger.flush();
  closeSync(fd);
  t.equal(readFileSync(path, 'utf8'), '');
});
