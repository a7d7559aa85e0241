import t, { type Test } from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { ok } from '../../src/base/result.js';
import { systemTimers } from '../../src/base/timers.js';
import { freePort } from '../../src/demo/free-port.js';
import { ClusterPeers, type PeerHandlers } from '../../src/replica/cluster-peers.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';
import { nodeFiles, type TestAuthority, testAuthority } from '../replication/transport/peers.js';
import { type ClusterState, clusterState } from '../support/cluster-state.js';

interface Node {
  readonly name: string;
  readonly port: number;
  readonly state: ClusterState;
}

/** Its members are at the ports of `nodes`. */
function stateOf(voters: readonly string[], nodes: readonly Pick<Node, 'name' | 'port'>[]): ClusterState {
  const state = clusterState(voters);
  for (const { name, port } of nodes) {
    if (voters.includes(name)) state.move(name, `127.0.0.1:${port}`);
  }
  return state;
}

async function start(t: Test, authority: TestAuthority, node: Node, handlers: Partial<PeerHandlers>) {
  const { name, port, state } = node;
  const files = { ...(await nodeFiles(authority, name)), notAfterMs: 0 };
  const paths = { ca: '', certificate: '', privateKey: '' };
  const started = await ClusterPeers.start({
    config: { listen: { address: '127.0.0.1', port }, advertise: `127.0.0.1:${port}`, ...paths },
    identity: { nodeName: name, clusterId: 'cluster-1', memberId: `id-${name}`, role: 'member' },
    state: () => state.keyState,
    loadTls: () => ok(files),
    timers: systemTimers,
    logger: silentLogger,
  });
  if (!started.ok) throw new Error(started.error.message);
  const peers = started.value;
  t.teardown(() => peers.transport.close());
  peers.bind({
    inbox: { receive() {}, unreachable() {} },
    onJoin: async () => ok(null),
    onCall: async () => ok(null),
    onRefused() {},
    ...handlers,
  });
  peers.refresh();
  return peers;
}

t.test(
  'a node that was off while members came hears the new ones once one it knows has named them',
  async (t) => {
    const authority = await testAuthority(t);
    const ports = [];
    for (const name of ['off', 'old', 'new']) ports.push({ name, port: await freePort(0) });
    const [off, old, fresh] = ports;
    if (off === undefined || old === undefined || fresh === undefined) throw new Error('three nodes');
    const behind = stateOf(['off', 'old'], ports);
    const ahead = stateOf(['off', 'old', 'new'], ports);

    let heard = (_: string): void => {};
    const next = (from: string): Promise<void> =>
      new Promise((resolve) => {
        heard = (sender) => {
          if (sender === from) resolve();
        };
      });
    const offPeers = await start(
      t,
      authority,
      { ...off, state: behind },
      {
        inbox: { receive: (from) => heard(from), unreachable() {} },
      },
    );
    let refused = (): void => {};
    const isRefused = new Promise<void>((resolve) => {
      refused = resolve;
    });
    let answered = (): void => {};
    const isAnswered = new Promise<void>((resolve) => {
      answered = resolve;
    });
    const newPeers = await start(
      t,
      authority,
      { ...fresh, state: ahead },
      {
        onRefused: (by, { reason }) => {
          t.same([by, reason], ['id-off', 'unknown']);
          refused();
        },
        inbox: { receive: () => answered(), unreachable() {} },
      },
    );
    const oldPeers = await start(t, authority, { ...old, state: ahead }, {});

    const message = (from: string, to: string): PeerMessage => ({
      kind: 'raft',
      message: { kind: 'timeoutNow', from, to, term: 1 },
    });
    const report: PeerMessage = {
      kind: 'report',
      report: {
        nodeName: 'old',
        version: '0.0.0',
        formatMax: 2,
        configHash: '',
        wallMs: 0,
        appliedIndex: ahead.keyState.appliedIndex,
        servingAppliedIndex: 0,
        readyServingProcesses: 1,
        stateHashes: [],
      },
    };
    // As members do, again and again: each may be lost.
    const repeated: NodeJS.Timeout[] = [];
    t.teardown(() => repeated.forEach(clearInterval));
    const sendOn = (peers: ClusterPeers, to: string, what: PeerMessage): void => {
      repeated.push(setInterval(() => peers.transport.send(to, what), 50));
    };
    sendOn(newPeers, 'id-off', message('id-new', 'id-off'));
    await isRefused;
    const told = next('id-old');
    sendOn(oldPeers, 'id-off', report);
    await told;
    await next('id-new');
    sendOn(offPeers, 'id-new', message('id-off', 'id-new'));
    await isAnswered;
  },
);

t.test('a joiner hears that the cluster it was let into went on without it', async (t) => {
  const authority = await testAuthority(t);
  const nodes = [];
  for (const name of ['old', 'gone']) nodes.push({ name, port: await freePort(0) });
  const [old, gone] = nodes;
  if (old === undefined || gone === undefined) throw new Error('two nodes');
  const without = stateOf(['old', 'gone'], nodes);
  without.remove('gone');
  await start(t, authority, { ...old, state: without }, {});
  const refusals: string[] = [];
  const joiner = await start(
    t,
    authority,
    { ...gone, state: clusterState([]) },
    { onRefused: (by, { reason }) => refusals.push(`${by}: ${reason}`) },
  );
  const ask = (memberId: string) =>
    joiner.join(
      { name: 'old', address: `127.0.0.1:${old.port}` },
      {
        ...{ clusterId: 'cluster-before', memberId, nodeName: 'gone', secret: '' },
        ...{ advertise: `127.0.0.1:${gone.port}`, formatMin: 1, formatMax: 4 },
      },
    );
  t.match(await ask('id-stranger'), { ok: false, error: /this is cluster cluster-1/ });
  t.strictSame(refusals, [], 'that says nothing of its own cluster');
  t.match(await ask('id-gone'), { ok: false, error: /this is cluster cluster-1/ });
  t.strictSame(refusals, ['old: other-cluster']);
});
