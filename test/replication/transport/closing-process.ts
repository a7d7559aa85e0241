import { ok } from '../../../src/base/result.js';
import { systemTimers, type Timers } from '../../../src/base/timers.js';
import { startPeerTransport } from '../../../src/replication/transport/peer-transport.js';

/**
 * Two transports in one process: a message each way, a third peer that never answers, a reload that leaves an old channel
 * with a call under way, one that leaves old connections because their peer is not trusted, then `close`. Nothing of theirs
 * may keep the process alive; what could is told.
 */
const [mutePort, caText, certificateA, keyA, certificateB, keyB, nextCertificateA, nextKeyA, otherCa] =
  process.argv.slice(2);

const waiting = new Set<() => void>();
/** So slow that nothing ends here because its time is up. */
const timers: Timers = {
  after: (delayMs, run) => {
    const cancelTimer = systemTimers.after(10 * delayMs, () => {
      waiting.delete(cancel);
      run();
    });
    const cancel = (): void => {
      waiting.delete(cancel);
      cancelTimer();
    };
    waiting.add(cancel);
    return cancel;
  },
};

async function start(
  name: string,
  files: () => { ca: string | undefined; certificate: string | undefined; key: string | undefined },
  heard: () => void,
) {
  const started = await startPeerTransport({
    listen: { address: '127.0.0.1', port: 0 },
    gate: {
      ...{ clusterId: 'cluster-1', memberId: `m-${name}`, formatMin: 1, formatMax: 1 },
      authorize: () => ({ ok: true }),
    },
    format: () => 1,
    loadTls: () => {
      const { ca = '', certificate = '', key = '' } = files();
      return ok({ ca, certificate, key });
    },
    timers,
    events: {
      onMessage: heard,
      onUnreachable: () => {},
      onRefused: () => {},
      onConnected: () => connected(),
      onTlsReload: () => {},
      onJoin: async () => null,
      onCall: () => {
        called();
        return new Promise(() => {});
      },
    },
  });
  if (!started.ok) throw new Error(started.error.message);
  return started.value;
}

let connected = (): void => {};
let called = (): void => {};
let hear = (): void => {};
const bothHeard = new Promise<void>((resolve) => {
  let heard = 0;
  hear = () => {
    heard += 1;
    if (heard === 2) resolve();
  };
});
let filesA = { ca: caText, certificate: certificateA, key: keyA };
let filesB = { ca: caText, certificate: certificateB, key: keyB };
const a = await start(
  'a',
  () => filesA,
  () => hear(),
);
const b = await start(
  'b',
  () => filesB,
  () => hear(),
);
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
const asked = new Promise<void>((resolve) => {
  called = resolve;
});
const unanswered = a.call('m-b', 'status', null);
await asked;
const renewed = new Promise<void>((resolve) => {
  connected = resolve;
});
filesA = { ca: caText, certificate: nextCertificateA, key: nextKeyA };
if (!a.reloadTls().ok) throw new Error('not reloaded');
await renewed;
filesB = { ...filesB, ca: otherCa };
if (!b.reloadTls().ok) throw new Error('not reloaded');
await a.close();
await unanswered;
await b.close();
await a.close();
process.stdout.write(`closed, ${waiting.size} timers\n`);
