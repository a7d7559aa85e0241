import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { raftLogLimits } from '../src/replication/raft-log-limits.js';
import { eventually } from '../test/support/running-node.js';
import { ScaleCluster } from './scale-cluster.js';
import { Findings } from './scale-findings.js';
import { measureRequests, type RequestOptions } from './scale-requests.js';
import { measureSnapshots } from './scale-snapshots.js';
import { longestStallMs, residentMiB, stallDuring } from './scale-watch.js';

/**
 * `npm run bench:scale`: what key state of the size that customers may have costs. Three real nodes on loopback, filled
 * through the log itself; then an empty node that joins, a restart of one node while the others are gone, and snapshots
 * while requests are served; then what requests cost beside a node with little key state. Each against its figure.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const directory = join(root, 'var/bench-scale');

const command = new Command('bench:scale')
  .option('--keys <count>', 'keys in key state', Number, 100_000)
  .option('--key-stores <count>', 'key stores, with two credentials each', Number, 1_000)
  .option('--rate <requests per second>', 'scheduled send rate while snapshots are made', Number, 1_800)
  .option('--turns <count>', 'times that each of two things is measured, in alternation', Number, 3)
  .addOption(
    new Option('--only <part>', 'requests: what they cost with much key state and with little').choices([
      'cluster',
      'requests',
    ]),
  );
interface ScaleOptions extends RequestOptions {
  readonly only?: 'cluster' | 'requests';
}
const { only, ...options } = command.parse().opts<ScaleOptions>();
for (const [name, value] of Object.entries(options)) {
  if (!(Number.isSafeInteger(value) && value > 0))
    command.error(`error: --${name} must be a whole number above 0`);
  if (name.startsWith('key') && value < 2) command.error('error: at least two keys in two key stores');
}

/** Short of what brings about a snapshot by what joining, restarting and the like put into the log. */
const tailEntries = raftLogLimits.snapshotEntries - 500;
const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;
const milliseconds = (ms: number): string => `${ms.toFixed(0)} ms`;

const findings = new Findings();

/** All nodes dead at once, one started again: it serves by what is on its disk. */
async function restartWithoutQuorum(cluster: ScaleCluster, what: string): Promise<void> {
  await cluster.killAll();
  cluster.first.start();
  const ms = await cluster.untilServes(cluster.first);
  findings.judge(`restart without quorum, ${what}: until the first answer`, seconds(ms), '5 s', ms < 5_000);
}

/** Brings the cluster to three nodes; the last of them is measured. */
async function grow(cluster: ScaleCluster, what: string | null): Promise<void> {
  cluster.first.start();
  await cluster.untilServes(cluster.first);
  const [, second, third] = cluster.nodes;
  if (second === undefined || third === undefined) throw new Error('three nodes are wanted');
  await cluster.join(second);
  await cluster.promote(second);
  await cluster.untilServes(second);
  if (what === null) {
    await cluster.join(third);
    await cluster.promote(third);
    await cluster.untilServes(third);
    return;
  }
  const before = await cluster.first.status();
  const { value, stallMs } = await stallDuring(cluster.first, async () => {
    await cluster.join(third);
    const startMs = performance.now();
    await eventually('the state is there', async () => {
      const status = await third.status();
      return status !== null && status.appliedIndex >= (before?.appliedIndex ?? 0) && status.appliedIndex > 0;
    });
    const appliedMs = performance.now() - startMs;
    await cluster.untilServes(third);
    return { appliedMs, servesMs: performance.now() - startMs };
  });
  const after = await cluster.first.status();
  findings.note(
    `an empty node, ${what}: from its start until its replica holds the state`,
    seconds(value.appliedMs),
  );
  findings.judge(
    `an empty node, ${what}: until it serves`,
    seconds(value.servesMs),
    '10 s',
    value.servesMs < 10_000,
  );
  findings.note('  longest stall of the replica that sends the snapshot', milliseconds(stallMs));
  findings.note(
    '  longest stall of the replica that takes it in',
    milliseconds((await longestStallMs(third)) ?? Number.NaN),
  );
  findings.judge(
    '  terms that it took (elections)',
    String((after?.term ?? Number.NaN) - (before?.term ?? Number.NaN)),
    '0',
    after?.term === before?.term,
  );
  await cluster.promote(third);
}

async function measureSmall(): Promise<Record<'replica' | 'serving', number>> {
  console.log('three nodes with little key state');
  const cluster = await ScaleCluster.found(join(directory, 'small'), null);
  try {
    await grow(cluster, null);
    const memory = {
      replica: residentMiB(cluster.first, 'replica'),
      serving: residentMiB(cluster.first, 'serving'),
    };
    await restartWithoutQuorum(cluster, 'little key state');
    return memory;
  } finally {
    await cluster.stop();
  }
}

async function measureFull(small: Record<'replica' | 'serving', number>): Promise<void> {
  const { keys, keyStores } = options;
  console.log(`three nodes with ${keys} keys in ${keyStores} key stores: filling`);
  const what = `${keys} keys`;
  // With those that requests are for: there may be no more than the most.
  const fill = { keys: keys - 1, keyStores: keyStores - 1, tailEntries };
  const cluster = await ScaleCluster.found(join(directory, 'full'), fill);
  try {
    findings.note(
      'filled through the log of one node, changes a second',
      (cluster.changesPerSecond ?? 0).toFixed(0),
    );
    console.log('joining');
    await grow(cluster, what);
    for (const kind of ['replica', 'serving'] as const) {
      const perKey = ((residentMiB(cluster.first, kind) - small[kind]) * 1_024 ** 2) / keys;
      findings.note(
        `memory of a ${kind} process`,
        `${residentMiB(cluster.first, kind).toFixed(0)} MiB, ${perKey.toFixed(0)} bytes a key`,
      );
    }
    console.log('restarting without quorum');
    await restartWithoutQuorum(cluster, what);
    for (const node of cluster.nodes.slice(1)) node.start();
    for (const node of cluster.nodes) await cluster.untilServes(node);
    await delay(2_000);
    console.log('snapshots under load');
    await measureSnapshots(cluster, options, findings);
  } finally {
    await cluster.stop();
  }
}

// What was started ends with this process (`ScaleCluster`).
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
if (only !== 'requests') await measureFull(await measureSmall());
if (only !== 'cluster') await measureRequests(directory, options, findings);
findings.print();
process.exitCode = findings.good ? 0 : 1;
