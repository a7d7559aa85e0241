/**
 * The child of the fuzz test: the real server in front of the real pipeline, software in place of the HSM, time
 * standing still so that signatures made by the parent hold. Reports its port; dies with its parent.
 */
import { silentLogger } from '../../src/base/logger.js';
import { createXksServer } from '../../src/serving/http/server.js';
import { PipelineFixture } from './pipeline-fixture.js';
import { testLimits } from './xks-server.js';

/** Parent → child. */
export type FuzzQuestion = 'connections';

/** Child → parent. */
export type FuzzReport = { readonly port: number } | { readonly connections: number };

const [certificate = '', key = ''] = process.argv.slice(2);
const { readFileSync } = await import('node:fs');
const fixture: PipelineFixture = new PipelineFixture({
  logger: silentLogger,
  metrics: { observeRequest: () => {}, authFailure: () => {} },
  credentialUse: { used: () => {} },
});
fixture.crypto.before = () => {
  fixture.crypto.encrypts.length = 0;
  fixture.crypto.decrypts.length = 0;
};
const report = (message: FuzzReport): void => {
  process.send?.(message);
};
const server = createXksServer({
  on: { address: '127.0.0.1', port: 0 },
  tls: { certificate: readFileSync(certificate), key: readFileSync(key), mtls: null },
  handler: fixture.handler,
  readiness: () => ({ ready: true }),
  limits: { ...testLimits, bodyTimeoutMs: 1_000, headersTimeoutMs: 2_000, connectionsMax: 1_000 },
  clock: fixture.time,
  logger: silentLogger,
  onRefusal: () => {},
});
process.on('message', () => report({ connections: server.connections() }));
process.on('disconnect', () => process.exit());
report({ port: await server.listen() });
