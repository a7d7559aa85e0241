import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import { loadKeys } from '../chaos-cluster.js';
import type { ChaosNode } from '../chaos-node.js';
import { XksCaller } from '../xks-caller.js';
import { healthText } from './members.js';

/** Figure to compare with: reported, not asserted, as a busy machine says nothing of it. */
const servesWithinMs = 5_000;
/** Longer than `serve-stale-max`, a day. */
const tooOldMs = 25 * 3_600_000;
const lookMs = 20;

/** From the start of a node to its first good answer. */
async function servesAfterMs(node: ChaosNode, caller: XksCaller): Promise<number> {
  const startMs = performance.now();
  node.start();
  await eventually(
    `${node.name} serves`,
    async () => {
      const answered = await caller.encrypt(loadKeys[0] ?? '', 'AAAA', true).then(
        ({ status }) => status === 200,
        () => false,
      );
      if (!answered) await delay(lookMs);
      return answered;
    },
    node.demo.logFile,
  );
  return performance.now() - startMs;
}

/** As if no quorum had confirmed anything for so long: the node's record of when one last did (replication.md 10). */
function age(node: ChaosNode, ms: number): void {
  writeFileSync(join(node.dataDir, 'confirmed'), `${Date.now() - ms}\n`, { mode: 0o600 });
}

export const restartWithoutQuorum: ChaosCase = {
  name: 'restart-without-quorum',
  nodes: 3,
  seconds: 60,
  async run({ cluster, note, check, history }: CaseContext) {
    const over = cluster.load.expect(['connection', 'unavailable'], 'nodes were down');
    const times: number[] = [];
    for (const node of cluster.nodes) {
      const others = cluster.others(node);
      for (const other of others) history.avoid(other);
      await Promise.all(cluster.nodes.map((each) => each.killAll()));
      const caller = new XksCaller(cluster.accessTo(node), 1);
      times.push(await servesAfterMs(node, caller));
      const status = await node.status();
      check(status?.leader === null, `${node.name} knows of a leader, ${status?.leader}, that can't be`);

      // Too long ago: it says so, and serves as soon as the others are back.
      await node.killAll();
      age(node, tooOldMs);
      node.start();
      await eventually(
        `${node.name} says that it does not serve`,
        async () => (await healthText(node)).includes('serve-stale-max'),
        node.demo.logFile,
      );
      const { status: refused } = await caller.encrypt(loadKeys[0] ?? '', 'AAAA', true);
      check(refused === 503, `${node.name} answered ${refused} by key state that is too old`);
      await caller.destroy();
      for (const other of others) other.start();
      await cluster.converged();
      for (const other of others) history.unavoid(other);
    }
    over();
    const ms = times.map((time) => time.toFixed(0)).join(', ');
    const late = times.filter((time) => time > servesWithinMs).length;
    note(`alone, a node served ${ms} ms after its start, ${late} times after more than ${servesWithinMs} ms`);
    note('its state not confirmed for more than a day: 503, until the others were back');
  },
};
