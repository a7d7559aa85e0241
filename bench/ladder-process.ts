import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { systemClock } from '../src/base/clock.js';
import { silentLogger } from '../src/base/logger.js';
import { httpLimits } from '../src/serving/http/limits.js';
import { createXksServer } from '../src/serving/http/server.js';
import { jsonEcho } from './ladder/json-echo.js';
import { rungHandler } from './ladder/rung-handler.js';
import type { RungOrder } from './ladder/rungs.js';

/** One rung of the ladder as a server of its own; tells its port. Ends with its parent. */

/** The product's own defaults. */
const limits = httpLimits({
  listen: { address: '127.0.0.1', port: 0 },
  tlsCertificate: '',
  tlsPrivateKey: '',
  mtls: null,
  requestDeadlineMs: 150,
  connectionsMax: 2_000,
  keepAliveSeconds: 365,
  connectionAgeMaxSeconds: 3_600,
});

function nodesOwn({ certificate, key }: RungOrder): Promise<number> {
  const server = createServer({ cert: certificate, key }, (req, res) => {
    const chunks: Buffer[] = [];
    req.on('data', (chunk: Buffer) => chunks.push(chunk));
    req.once('end', () => {
      const answer = jsonEcho(Buffer.concat(chunks));
      res.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.length });
      res.end(answer);
    });
  });
  return new Promise((resolve) =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port)),
  );
}

async function ours(order: RungOrder): Promise<number> {
  const server = createXksServer({
    on: { address: '127.0.0.1', port: 0 },
    tls: { certificate: order.certificate, key: order.key, mtls: null },
    handler: await rungHandler(order.rung, order.token),
    readiness: () => ({ ready: true }),
    limits,
    clock: systemClock,
    logger: silentLogger,
    onRefusal: () => {},
  });
  return server.listen();
}

process.once('message', (order: RungOrder) => {
  (order.rung === 'node' ? nodesOwn(order) : ours(order)).then(
    (port) => process.send?.({ port }),
    (failure: unknown) => {
      console.error(failure);
      process.exit(1);
    },
  );
});
process.once('disconnect', () => process.exit(0));
