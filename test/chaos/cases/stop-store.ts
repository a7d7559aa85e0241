import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import { loadKeys } from '../chaos-cluster.js';
import type { ChaosNode } from '../chaos-node.js';
import { Prober } from '../prober.js';
import { setOnIsolation, smallestBoundMs } from './freshness.js';
import { replicaBack } from './kills.js';

const killsMin = 10;
const shownMax = 5;

/** The process that leads, and nothing else of its node. */
async function killReplica({ cluster }: CaseContext, leader: ChaosNode): Promise<void> {
  const pid = leader.signal('replica', 'SIGKILL');
  await replicaBack(leader, pid ?? 0);
  await cluster.settledLeader();
}

/** All processes of the node, as when its power fails. Only what was sent to it may be lost. */
async function killNode({ cluster }: CaseContext, leader: ChaosNode, probers: readonly Prober[]) {
  const own = probers.find(({ node }) => node === leader);
  const over = cluster.load.expect(['connection'], 'sent to a killed node');
  own?.pause();
  await leader.killAll();
  await cluster.balancerHolds(leader, 'down');
  over();
  leader.start();
  // All of it: a connection that a process took when none was ready stays with that process.
  await eventually(`${leader.name} whole`, () => leader.isWhole(), leader.demo.logFile);
  await cluster.balancerHolds(leader, 'up');
  own?.resume();
  await cluster.settledLeader();
}

export const stopStoreLeaderDeath: ChaosCase = {
  name: 'stop-store-leader-death',
  nodes: 3,
  seconds: 100,
  async run(context: CaseContext) {
    const { cluster, note, check, deadlineMs, brief } = context;
    await setOnIsolation((await cluster.leader()).node, 'stop', '--bound', String(smallestBoundMs / 1_000));
    const probers = cluster.nodes.map((node) => new Prober(cluster, node, loadKeys[0] ?? ''));
    const killed = { replica: 0, node: 0 };
    try {
      while (
        killed.replica + killed.node < (brief ? 2 : 2 * killsMin) ||
        (!brief && performance.now() < deadlineMs)
      ) {
        const { node } = await cluster.settledLeader();
        if (killed.replica <= killed.node) {
          killed.replica += 1;
          await killReplica(context, node);
        } else {
          killed.node += 1;
          await killNode(context, node, probers);
        }
      }
    } finally {
      await Promise.all(probers.map((prober) => prober.stop()));
    }
    const failures = probers.flatMap((prober) => prober.failures);
    const answered = probers.reduce((sum, prober) => sum + prober.answered, 0);
    note(
      `D is ${smallestBoundMs} ms; killed ${killed.replica} leading replicas and ${killed.node} leading nodes; nodes that were there answered ${answered} requests, and did not answer ${failures.length}`,
    );
    for (const failure of failures.slice(0, shownMax)) check(false, `a node that was there: ${failure}`);
    await setOnIsolation((await cluster.leader()).node, 'serve');
  },
};
