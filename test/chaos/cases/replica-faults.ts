import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import type { ChaosNode } from '../chaos-node.js';
import { replicaBack } from './kills.js';

/** What KMS may send to one key store. */
const kmsRate = 1_800;
const stoppedMs = 8_000;
const fullMs = 8_000;
const quietMs = 1_000;
/** On a busy machine answers may be late for ever. */
const warmUpMsMax = 10_000;
/** A restart and an election; looking on meanwhile would cost what the load needs. */
const recoveryMs = 3_000;

/** All is new at first, the load as well, and its code is compiled while it runs: until a second has no late answer. */
async function warmUp({ cluster }: CaseContext): Promise<void> {
  const endMs = performance.now() + warmUpMsMax;
  let slow = -1;
  while (cluster.load.report().slow !== slow && performance.now() < endMs) {
    slow = cluster.load.report().slow;
    await delay(quietMs);
  }
}

/** What a replica loads when it starts, which is most of what its start costs. */
const replicaCode = new URL('../../../src/replica/main.js', import.meta.url).href;

/** By itself, and in no node: how late answers are for want of cores alone. */
async function loadReplicaCode(): Promise<void> {
  const script = `import(${JSON.stringify(replicaCode)}).then(() => process.exit(0))`;
  await once(spawn(process.execPath, ['-e', script], { detached: true, stdio: 'ignore' }), 'exit');
  await delay(recoveryMs);
}

async function kill({ cluster }: CaseContext, node: ChaosNode): Promise<void> {
  const pid = node.signal('replica', 'SIGKILL');
  await delay(recoveryMs);
  await replicaBack(node, pid ?? 0);
  await cluster.settledLeader();
}

async function standStill({ cluster }: CaseContext, node: ChaosNode): Promise<void> {
  node.signal('replica', 'SIGSTOP');
  await delay(stoppedMs);
  node.resume();
  await delay(recoveryMs);
  await cluster.settledLeader();
}

async function fillDisk({ cluster, check }: CaseContext): Promise<void> {
  const { disk } = cluster;
  const node = cluster.nodes.find(({ dataDir }) => dataDir === disk?.directory);
  if (disk === null || node === undefined)
    throw new Error('this user may not mount a small file system: run it as root, or with sudo -n');
  disk.fill();
  await eventually('its replication stops', () => node.hasHalted(), node.demo.logFile);
  await delay(fullMs);
  check((await node.health()) === 200, `${node.name} does not serve while its disk is full`);
  disk.free();
  await delay(recoveryMs);
  await eventually('a replica again', () => node.replicates(), node.demo.logFile);
  await cluster.settledLeader();
}

/**
 * Serving does not need the replica: at the rate that KMS may send, no request fails. None is excused but connections
 * lost while the load itself stood still.
 */
export const replicaFaults: ChaosCase = {
  name: 'replica-faults',
  nodes: 3,
  seconds: 60,
  rate: kmsRate,
  adminPauseMs: 4_000,
  async run(context: CaseContext) {
    const { cluster, note } = context;
    const costs: string[] = [];
    const step = async (what: string, act: () => Promise<void>): Promise<void> => {
      const before = cluster.load.report();
      const startMs = performance.now();
      context.event(what);
      await act();
      await delay(quietMs);
      const after = cluster.load.report();
      const seconds = (performance.now() - startMs) / 1_000;
      const rate = (after.succeeded - before.succeeded) / seconds;
      costs.push(
        `${what}: ${rate.toFixed(0)} requests/s for ${seconds.toFixed(0)} s, ${after.unexplained.length - before.unexplained.length} failed, ${after.slow - before.slow} after more than 250 ms`,
      );
    };
    const leader = async (): Promise<ChaosNode> => (await cluster.settledLeader()).node;
    const follower = async (): Promise<ChaosNode> => {
      const node = cluster.others(await leader())[0];
      if (node === undefined) throw new Error('there is one node only');
      return node;
    };
    await step('the first seconds', () => warmUp(context));
    await step('nothing', () => delay(2 * quietMs));
    await step("a replica's code loaded, nothing killed", loadReplicaCode);
    await step("the leader's replica killed", async () => kill(context, await leader()));
    await step("a follower's replica killed", async () => kill(context, await follower()));
    await step("the leader's replica stopped", async () => standStill(context, await leader()));
    await step("a follower's replica stopped", async () => standStill(context, await follower()));
    await step('a disk full', () => fillDisk(context));
    for (const cost of costs) note(cost);
  },
};
