import { setTimeout as delay } from 'node:timers/promises';
import { percentile } from '../../../bench/open-loop.js';
import { whileNobodyLogsIn } from '../../support/login-lock.js';
import { eventually, isAlive } from '../../support/running-node.js';
import { type CaseContext, type ChaosCase, drawnMs } from '../chaos-case.js';
import type { ChaosNode } from '../chaos-node.js';

/** The contract's bound: reported, not asserted, as a busy machine says nothing of the protocol. */
const newLeaderWithinMs = 1_500;
/** For a p99 worth the name. */
const leaderKillsMin = 40;
const lookMs = 5;

/** From now until one of `nodes` leads in a later term: also the one killed, whose standby may be back in time to be voted for. */
async function newLeaderMs(nodes: readonly ChaosNode[], term: number): Promise<number> {
  const startMs = performance.now();
  for (;;) {
    const statuses = await Promise.all(nodes.map((node) => node.status()));
    const atMs = performance.now() - startMs;
    if (statuses.some((status) => status?.role === 'leader' && status.term > term)) return atMs;
    if (atMs > 60_000) throw new Error('no new leader within a minute');
    await delay(lookMs);
  }
}

/** Until a process other than `gone` is the node's replica and answers. */
export async function replicaBack(node: ChaosNode, gone: number): Promise<void> {
  await eventually(
    `a new replica of ${node.name}`,
    async () =>
      node.processes('replica').some((pid) => pid !== gone && isAlive(pid)) && (await node.status()) !== null,
    node.demo.logFile,
  );
}

export const killLeader: ChaosCase = {
  name: 'kill-leader',
  nodes: 3,
  seconds: 120,
  // Two cores are all that many of us have: what is measured are elections, not the starts of command lines.
  adminPauseMs: 1_000,
  async run({ cluster, note, deadlineMs, random, brief }: CaseContext) {
    const times: number[] = [];
    while (times.length < (brief ? 1 : leaderKillsMin) || performance.now() < deadlineMs) {
      // The last one killed has come back: else there would be two of three at once without a voice.
      const { node, status } = await cluster.settledLeader();
      // Not in step with heartbeats or anything else.
      await delay(random.integer(300));
      const pid = node.signal('replica', 'SIGKILL');
      if (pid === null) throw new Error(`${node.name} has no replica`);
      times.push(await newLeaderMs(cluster.nodes, status.term));
      await replicaBack(node, pid);
    }
    const ascending = Float64Array.from(times).sort();
    const at = (fraction: number): string => percentile(ascending, fraction).toFixed(0);
    const late = times.filter((ms) => ms > newLeaderWithinMs).length;
    note(
      `${times.length} leaders killed; a new one after p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, ${late} after ${newLeaderWithinMs} ms`,
    );
  },
};

/** The whole node, and its start; until it is ready again. */
export async function crashAndRestart(
  { cluster }: CaseContext,
  node: ChaosNode,
  downMs: number,
): Promise<void> {
  const over = cluster.load.expect(['connection'], 'a node was down, and the balancer had not seen it');
  await node.killAll();
  await delay(downMs);
  node.start();
  await eventually(`${node.name} ready`, async () => (await node.health()) === 200, node.demo.logFile);
  over();
}

export const killRandom: ChaosCase = {
  name: 'kill-random',
  nodes: 3,
  seconds: 45,
  async run(context: CaseContext) {
    const { cluster, note, random, deadlineMs } = context;
    const killed = { supervisor: 0, replica: 0, serving: 0 };
    do {
      const node = random.pick(cluster.nodes);
      const kind = random.pick(['supervisor', 'replica', 'replica', 'serving'] as const);
      killed[kind] += 1;
      if (kind === 'supervisor') {
        await crashAndRestart(context, node, drawnMs(random, 100, 3_000));
      } else if (kind === 'serving') {
        const over = cluster.load.expect(['connection'], 'in flight on a killed serving process');
        await whileNobodyLogsIn(node.dataDir, () => void node.signal('serving', 'SIGKILL'));
        await eventually(`${node.name} whole`, async () => node.processes('serving').length === 2);
        over();
      } else {
        const pid = node.signal('replica', 'SIGKILL');
        // Two of three at once now and then: no quorum for a moment.
        if (random.integer(4) === 0) random.pick(cluster.others(node)).signal('replica', 'SIGKILL');
        await replicaBack(node, pid ?? 0);
      }
      await delay(drawnMs(random, 50, 1_500));
    } while (performance.now() < deadlineMs);
    note(
      `killed ${killed.supervisor} nodes, ${killed.replica} replicas, ${killed.serving} serving processes`,
    );
  },
};
