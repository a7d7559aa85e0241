import { createServer } from 'node:http';
import { attachToSupervisor } from '../../src/ops/child-link.js';

/**
 * Stands in for the replica and the serving processes under a real supervisor: answers any request on the listener it
 * inherited with what it knows of itself, is ready at once, and ends when it is drained.
 */
const environment = process.env;
const link = attachToSupervisor({
  onMessage: (message) => {
    if (message.kind === 'fleet') fleet = message;
    else setTimeout(() => process.exit(0), message.kind === 'drain' ? message.drainMs : message.leaveMs);
  },
});
let fleet: unknown = null;

const slot = Number(environment['XKSD_SLOT']);
const fatal = environment['TEST_REPLICA_FATAL'];
if (slot === 0 && fatal !== undefined) await link.reportFatal(fatal);

const config = await link.config;
const nodeName = config.node.name;
const fd = Number(environment[slot === 0 ? 'XKSD_METRICS_FD' : 'XKSD_XKS_FD']);
createServer((_request, response) => {
  response.setHeader('connection', 'close');
  response.end(
    JSON.stringify({
      pid: process.pid,
      slot,
      fleet,
      nodeName,
      knowsPin: JSON.stringify(config).includes('4711'),
      notifySocket: environment['NOTIFY_SOCKET'] ?? null,
      healthFd: environment['XKSD_HEALTH_FD'] ?? null,
    }),
  );
}).listen({ fd }, () => link.reportReadiness(true, 'up'));
