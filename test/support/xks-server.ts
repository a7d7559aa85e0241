import type { Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import type { HttpAnswer, HttpHandler, HttpRefusal, HttpRequest } from '../../src/serving/http/exchange.js';
import { type HttpLimits, httpLimits } from '../../src/serving/http/limits.js';
import { createXksServer, type TlsMaterial, type XksServer } from '../../src/serving/http/server.js';
import { type TestCertificates, testCertificates } from './certificates.js';

export const testLimits: HttpLimits = {
  ...httpLimits({
    listen: { address: '127.0.0.1', port: 0 },
    tlsCertificate: '',
    tlsPrivateKey: '',
    mtls: null,
    requestDeadlineMs: 150,
    connectionsMax: 100,
    keepAliveSeconds: 60,
    connectionAgeMaxSeconds: 3_600,
  }),
  // Tests wait for connections to close.
  lingerMs: 50,
};

/** A server in this process, on a free port, closed with the test. */
export interface TestServer {
  readonly port: number;
  readonly server: XksServer;
  readonly certificates: TestCertificates;
  /** What reached the handler, in order. */
  readonly requests: HttpRequest[];
  /** What the server refused by itself, in order. */
  readonly refusals: HttpRefusal[];
}

/** What the handler saw, as the JSON that `echo` answers with. */
export interface Echo {
  readonly method: string;
  readonly target: string;
  readonly authority: string | null;
  readonly headers: [string, string][];
  readonly bodyBytes: number;
  readonly body: string;
  readonly httpVersion: string;
}

export const jsonAnswer = (value: unknown, status = 200): HttpAnswer => ({
  status,
  body: Buffer.from(JSON.stringify(value)),
});

/** Answers with what it was asked. */
export const echo: HttpHandler = async (request) => {
  const { method, target, authority, headers, body, httpVersion } = request;
  const text = Buffer.from(body).toString('latin1');
  return jsonAnswer({
    method,
    target,
    authority,
    headers,
    bodyBytes: body.byteLength,
    body: text,
    httpVersion,
  });
};

export async function startServer(
  t: Test,
  options: {
    readonly limits?: Partial<HttpLimits>;
    readonly handler?: HttpHandler;
    readonly ready?: () => boolean;
    readonly certificates?: TestCertificates;
    readonly mtls?: TlsMaterial['mtls'];
  } = {},
): Promise<TestServer> {
  const certificates = options.certificates ?? (await testCertificates(t.testdir()));
  const requests: HttpRequest[] = [];
  const refusals: HttpRefusal[] = [];
  const handler = options.handler ?? echo;
  const server = createXksServer({
    on: { address: '127.0.0.1', port: 0 },
    tls: { certificate: certificates.certificate, key: certificates.key, mtls: options.mtls ?? null },
    handler: (request) => {
      requests.push(request);
      return handler(request);
    },
    readiness: () => ({ ready: options.ready?.() ?? true }),
    limits: { ...testLimits, ...options.limits },
    clock: systemClock,
    logger: silentLogger,
    onRefusal: (refused) => refusals.push(refused),
  });
  const port = await server.listen();
  t.teardown(() => server.close());
  return { port, server, certificates, requests, refusals };
}
