import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import { promoted } from '../chaos-cluster.js';
import type { ChaosNode } from '../chaos-node.js';
import { XksCaller } from '../xks-caller.js';

/** `xksctl ARGS` through `node`, again until it is taken: leaders come and go. */
async function insist({ note }: CaseContext, node: ChaosNode, ...args: readonly string[]): Promise<void> {
  let said = '';
  await eventually(`xksctl ${args.join(' ')}`, async () => {
    const { status, stderr } = await node.xksctl(...args);
    if (status === 0 || status === 3 || /has no member|is no former member/.test(stderr)) return true;
    if (said === '') note(`not at once, ${node.name}: ${stderr.trim()}`);
    said = stderr;
    return false;
  }).catch((failure: unknown) => {
    throw new Error(`${String(failure)}: ${said}`);
  });
}

/** As an operator brings back a node whose disk was lost: removed, emptied, added and joined. It is down when called. */
export async function rejoin(context: CaseContext, node: ChaosNode): Promise<void> {
  const { cluster } = context;
  const { node: leader } = await cluster.leader(cluster.others(node));
  await insist(context, leader, 'cluster', 'remove', node.name);
  await insist(context, leader, 'cluster', 'forget', node.name, '--destroyed');
  for (const name of readdirSync(node.dataDir)) {
    rmSync(join(node.dataDir, name), { recursive: true, force: true });
  }
  await cluster.demo.join(leader.demo, node.demo);
  const { node: now } = await cluster.leader(cluster.others(node));
  await promoted(now, node);
  await eventually(`${node.name} ready`, async () => (await node.health()) === 200, node.demo.logFile);
}

export const removeLeader: ChaosCase = {
  name: 'remove-leader',
  nodes: 3,
  seconds: 40,
  async run(context: CaseContext) {
    const { cluster, note, check, history } = context;
    const { node, status } = await cluster.leader();
    const [through] = cluster.others(node);
    if (through === undefined) throw new Error('there is one node only');
    history.avoid(node);
    const caller = new XksCaller(cluster.accessTo(node), 1);
    const over = cluster.load.expect(['connection', 'unavailable'], 'a removed node was asked');
    const startMs = performance.now();
    await insist(context, through, 'cluster', 'remove', node.name);
    const answeredMs = performance.now();
    const { node: next } = await cluster.leader(cluster.others(node), status.term);
    const ms = (from: number, to: number): string => `${(to - from).toFixed(0)} ms`;
    note(
      `${node.name} removed after ${ms(startMs, answeredMs)}, ${next.name} leads ${ms(answeredMs, performance.now())} later`,
    );
    await eventually(`${node.name} is fenced`, async () => (await node.health()) !== 200, node.demo.logFile);
    const refused = await caller.encrypt('load-1', 'AAAA', true);
    check(refused.status === 503, `a removed node answered ${refused.status}`);

    // For good: also after a start.
    await node.killAll();
    node.start();
    await eventually(`${node.name} answers`, async () => (await node.health()) !== 0, node.demo.logFile);
    await eventually(
      `${node.name} says that it was removed`,
      async () => (await healthText(node)).includes('removed'),
      node.demo.logFile,
    );
    const still = await caller.encrypt('load-1', 'AAAA', true);
    check(still.status === 503, `a removed node answered ${still.status} after a start`);
    await caller.destroy();
    await node.killAll();
    await rejoin(context, node);
    over();
    history.unavoid(node);
  },
};

export const healthText = (node: ChaosNode): Promise<string> =>
  fetch(node.demo.description.healthUrl, { headers: { connection: 'close' } }).then(
    (answer) => answer.text(),
    () => '',
  );

export const rollingRestart: ChaosCase = {
  name: 'rolling-restart',
  nodes: 3,
  seconds: 45,
  async run({ cluster, note, check, history }: CaseContext) {
    for (const node of cluster.nodes) {
      history.avoid(node);
      const code = await node.terminate();
      check(code === 0, `${node.name} ended with ${code}`);
      node.start();
      await cluster.converged();
      history.unavoid(node);
    }
    note(`${cluster.nodes.length} nodes drained, ended and started, one after the other`);
  },
};
