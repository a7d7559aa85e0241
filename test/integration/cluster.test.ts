import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { isolatedFollower } from '../chaos/cases/freshness.js';
import { killLeader } from '../chaos/cases/kills.js';
import { removeLeader } from '../chaos/cases/members.js';
import { stopLeader } from '../chaos/cases/stops.js';
import { ChaosCluster } from '../chaos/chaos-cluster.js';
import { resultText, runCase } from '../chaos/runner.js';

/** The first of what `npm run test:chaos` does: three nodes behind HAProxy, under load, while one of them breaks. */
const requestsPerSecond = 20;
const seconds = 6;

// Three nodes come up, and four times something breaks and is healed: on a busy machine that takes its time.
t.test('a cluster goes on while a node breaks, and agrees when it is whole again', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-cluster-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const cluster = await ChaosCluster.start({ directory, nodes: 3, rate: requestsPerSecond, faults: false });
  t.teardown(() => cluster.stop());
  const seed = Date.now() % 1_000_000;
  for (const chaosCase of [killLeader, stopLeader, isolatedFollower, removeLeader]) {
    await t.test(chaosCase.name, async (t) => {
      const result = await runCase(cluster, chaosCase, { seed, seconds, brief: true });
      t.comment(`seed ${seed}: ${resultText(result)}`);
      t.strictSame(result.problems, []);
    });
  }
});
