import t from 'tap';
import { heartbeat, nodeFiles, startPeer, testAuthority } from './peers.js';

t.test('two members exchange messages both ways', async (t) => {
  const authority = await testAuthority(t);
  const a = await startPeer(t, { memberId: 'm-a', name: 'a', files: await nodeFiles(authority, 'a') });
  const b = await startPeer(t, { memberId: 'm-b', name: 'b', files: await nodeFiles(authority, 'b') });
  a.meet(b);
  b.meet(a);
  for (let commitIndex = 1; commitIndex <= 3; commitIndex++) {
    a.transport.send('m-b', heartbeat(a, b, commitIndex));
    b.transport.send('m-a', heartbeat(b, a, commitIndex));
  }
  for (let commitIndex = 1; commitIndex <= 3; commitIndex++) {
    t.strictSame(await b.next('message'), {
      kind: 'message',
      from: 'm-a',
      message: heartbeat(a, b, commitIndex),
    });
    t.strictSame(await a.next('message'), {
      kind: 'message',
      from: 'm-b',
      message: heartbeat(b, a, commitIndex),
    });
  }
  t.match(a.transport.stats(), {
    sent: { raft: 3 },
    received: { raft: 3 },
    dropped: { raft: 0 },
    peers: [{ memberId: 'm-b', connected: true, queuedMessages: 0 }],
    inboundConnections: 1,
    inboundStreams: 1,
  });
});
