import { ok } from '../../../src/base/result.js';
import { systemTimers } from '../../../src/base/timers.js';
import { startPeerTransport } from '../../../src/replication/transport/peer-transport.js';

/**
 * Two transports in one process: a message each way, a third peer that never answers, then `close`. Nothing of theirs may keep
 * the process alive; it ends by itself or not at all.
 */
const [mutePort, caText, certificateA, keyA, certificateB, keyB] = process.argv.slice(2);

async function start(
  name: string,
  certificate: string | undefined,
  key: string | undefined,
  heard: () => void,
) {
  const started = await startPeerTransport({
    listen: { address: '127.0.0.1', port: 0 },
    gate: {
      ...{ clusterId: 'cluster-1', memberId: `m-${name}`, formatMin: 1, formatMax: 1 },
      authorize: () => ({ ok: true }),
    },
    format: () => 1,
    loadTls: () => ok({ ca: caText ?? '', certificate: certificate ?? '', key: key ?? '' }),
    timers: systemTimers,
    events: {
      onMessage: heard,
      onUnreachable: () => {},
      onRefused: () => {},
      onConnected: () => {},
      onTlsReload: () => {},
      onJoin: async () => null,
      onCall: async () => null,
    },
  });
  if (!started.ok) throw new Error(started.error.message);
  return started.value;
}

let hear = (): void => {};
const bothHeard = new Promise<void>((resolve) => {
  let heard = 0;
  hear = () => {
    heard += 1;
    if (heard === 2) resolve();
  };
});
const a = await start('a', certificateA, keyA, () => hear());
const b = await start('b', certificateB, keyB, () => hear());
const members = [
  { memberId: 'm-a', name: 'a', address: `127.0.0.1:${a.port}` },
  { memberId: 'm-b', name: 'b', address: `127.0.0.1:${b.port}` },
  { memberId: 'm-c', name: 'c', address: `127.0.0.1:${mutePort}` },
];
a.setMembers(members);
b.setMembers(members);
a.send('m-b', { kind: 'raft', message: { kind: 'timeoutNow', from: 'm-a', to: 'm-b', term: 1 } });
b.send('m-a', { kind: 'raft', message: { kind: 'timeoutNow', from: 'm-b', to: 'm-a', term: 1 } });
await bothHeard;
const unanswered = a.call('m-b', 'status', null);
await Promise.all([a.close(), b.close()]);
await unanswered;
await a.close();
process.stdout.write('closed\n');
