import t from 'tap';
import { requestJoin } from '../../../src/replication/transport/join-request.js';
import {
  callJsonBytesMax,
  inboundCallsMax,
  outboundCallsMax,
} from '../../../src/replication/transport/limits.js';
import type { JoinRequest } from '../../../src/replication/transport/peer-server.js';
import { nodeFiles, startPeer, testAuthority, testClusterId } from './peers.js';

t.test('a call carries a question there and the answer back', async (t) => {
  const authority = await testAuthority(t);
  const asked: unknown[] = [];
  const a = await startPeer(t, { memberId: 'm-a', name: 'a', files: await nodeFiles(authority, 'a') });
  const b = await startPeer(t, {
    memberId: 'm-b',
    name: 'b',
    files: await nodeFiles(authority, 'b'),
    onCall: async (from, name, body) => {
      asked.push([from, name, body]);
      if (name === 'fail') throw new Error('not today');
      return name === 'long' ? 'x'.repeat(callJsonBytesMax) : { answer: body };
    },
  });
  a.meet(b);
  t.strictSame(await a.transport.call('m-b', 'status', { of: ['ü', 1, null] }), {
    ok: true,
    value: { answer: { of: ['ü', 1, null] } },
  });
  t.strictSame(asked, [['m-a', 'status', { of: ['ü', 1, null] }]]);
  t.match(await a.transport.call('m-b', 'fail', null), {
    ok: false,
    error: { kind: 'failed', detail: 'not today' },
  });
  t.match(await a.transport.call('m-b', 'long', null), {
    ok: false,
    error: { kind: 'failed', detail: /1048578 bytes/ },
  });
  asked.length = 0;
  t.match(await a.transport.call('m-b', 'status', 'x'.repeat(callJsonBytesMax)), {
    ok: false,
    error: { kind: 'not-asked', detail: 'the question has 1048578 bytes' },
  });
  t.match(await a.transport.call('m-c', 'status', null), { ok: false, error: { kind: 'not-asked' } });
  t.strictSame(asked, []);
});

t.test('a call that is not answered in time may have been heard', async (t) => {
  const authority = await testAuthority(t);
  const a = await startPeer(t, { memberId: 'm-a', name: 'a', files: await nodeFiles(authority, 'a') });
  const b = await startPeer(t, {
    memberId: 'm-b',
    name: 'b',
    files: await nodeFiles(authority, 'b'),
    onCall: () => new Promise(() => {}),
  });
  a.meet(b);
  await a.next('connected');
  t.match(await a.transport.call('m-b', 'status', null, 50), { ok: false, error: { kind: 'no-answer' } });
  await b.transport.close();
  await a.next('unreachable');
  t.match(await a.transport.call('m-b', 'status', null), { ok: false, error: { kind: 'not-asked' } });
});

t.test('who is no member any more may still answer what it was asked before', async (t) => {
  const authority = await testAuthority(t);
  let answer = (_value: unknown): void => {};
  const answered = new Promise<unknown>((resolve) => {
    answer = resolve;
  });
  let asked = (): void => {};
  const heard = new Promise<void>((resolve) => {
    asked = resolve;
  });
  const a = await startPeer(t, { memberId: 'm-a', name: 'a', files: await nodeFiles(authority, 'a') });
  const b = await startPeer(t, {
    memberId: 'm-b',
    name: 'b',
    files: await nodeFiles(authority, 'b'),
    onCall: () => {
      asked();
      return answered;
    },
  });
  a.meet(b);
  const removal = a.transport.call('m-b', 'cluster.remove', { name: 'b' });
  await heard;
  a.meet();
  t.match(await a.transport.call('m-b', 'status', null), { ok: false, error: { kind: 'not-asked' } });
  answer('removed');
  t.strictSame(await removal, { ok: true, value: 'removed' });
});

t.test('calls under way are bounded on both sides', async (t) => {
  const authority = await testAuthority(t);
  let asked = 0;
  let allAsked = (): void => {};
  const everyone = new Promise<void>((resolve) => {
    allAsked = resolve;
  });
  let answer = (_value: unknown): void => {};
  const answered = new Promise<unknown>((resolve) => {
    answer = resolve;
  });
  const a = await startPeer(t, { memberId: 'm-a', name: 'a', files: await nodeFiles(authority, 'a') });
  const c = await startPeer(t, { memberId: 'm-c', name: 'c', files: await nodeFiles(authority, 'c') });
  const b = await startPeer(t, {
    memberId: 'm-b',
    name: 'b',
    files: await nodeFiles(authority, 'b'),
    onCall: () => {
      asked += 1;
      if (asked === inboundCallsMax) allAsked();
      return answered;
    },
  });
  a.meet(b);
  c.meet(b);
  const underWay = Array.from({ length: outboundCallsMax }, () => a.transport.call('m-b', 'wait', null));
  t.match(await a.transport.call('m-b', 'wait', null), {
    ok: false,
    error: { kind: 'not-asked', detail: `${outboundCallsMax} calls are under way` },
  });
  await everyone;
  t.match(await c.transport.call('m-b', 'wait', null), {
    ok: false,
    error: { kind: 'not-asked', detail: `${inboundCallsMax} calls are being answered` },
  });
  answer('done');
  t.strictSame(await Promise.all(underWay), Array(outboundCallsMax).fill({ ok: true, value: 'done' }));
  t.ok((await c.transport.call('m-b', 'wait', null)).ok);
});

t.test('calls pass the same checks as messages', async (t) => {
  const authority = await testAuthority(t);
  const a = await startPeer(t, { memberId: 'm-a', name: 'a', files: await nodeFiles(authority, 'a') });
  const b = await startPeer(t, {
    memberId: 'm-b',
    name: 'b',
    files: await nodeFiles(authority, 'b'),
    authorize: () => ({ ok: false, reason: 'removed' }),
    onCall: async () => t.fail('was asked'),
  });
  a.meet(b);
  t.match(await a.transport.call('m-b', 'status', null), {
    ok: false,
    error: { kind: 'not-asked', refusal: { reason: 'removed' } },
  });
});

t.test('a node that holds a token asks to join', async (t) => {
  const authority = await testAuthority(t);
  const requests: JoinRequest[] = [];
  const b = await startPeer(t, {
    memberId: 'm-b',
    name: 'b',
    files: await nodeFiles(authority, 'b'),
    // Asked only of those of another cluster: a joiner is no member.
    authorize: (from) => ({ ok: false, reason: from === 'm-left' ? 'removed' : 'unknown' }),
    onJoin: async (request) => {
      requests.push(request);
      return { members: ['m-b', request.memberId] };
    },
  });
  const files = await nodeFiles(authority, 'c');
  const request: JoinRequest = {
    ...{ clusterId: testClusterId, memberId: 'm-c', nodeName: 'c', secret: 's3cret' },
    ...{ advertise: 'c.example:7443', formatMin: 1, formatMax: 2 },
  };
  const ask = (changes: Partial<JoinRequest> = {}, name: string | null = 'b', address = b.address) =>
    requestJoin({ address, name, files, request: { ...request, ...changes }, deadlineMs: 10_000 });
  t.strictSame(await ask(), { ok: true, value: { members: ['m-b', 'm-c'] } });
  t.strictSame(requests, [request]);
  t.ok((await ask({}, null)).ok, 'whoever answers at that address');
  const refused = (reason: string) => ({ ok: false, error: { kind: 'not-asked', refusal: { reason } } });
  t.match(await ask({ clusterId: 'cluster-2' }), refused('foreign-cluster'));
  t.match(await ask({ clusterId: 'cluster-2', memberId: 'm-left' }), refused('other-cluster'));
  t.match(await ask({ nodeName: 'b' }), refused('wrong-name'));
  t.match(await ask({}, 'd'), { ok: false, error: { detail: /its certificate is for b, not for d/ } });
  for (const address of ['nowhere', `${b.address}\n`, 'xksd-peer:%', '']) {
    t.match(
      await ask({}, 'b', address),
      { ok: false, error: { detail: `${JSON.stringify(address)} is not "HOST:PORT"` } },
      'an address that is none',
    );
  }
  t.equal(requests.length, 2);
});
