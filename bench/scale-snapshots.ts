import { setTimeout as delay } from 'node:timers/promises';
import { raftLogLimits } from '../src/replication/raft-log-limits.js';
import type { ChaosNode } from '../test/chaos/chaos-node.js';
import { eventually } from '../test/support/running-node.js';
import { type OpenLoopResult, openLoop } from './open-loop.js';
import { keyId, type ScaleCluster } from './scale-cluster.js';
import type { Findings } from './scale-findings.js';
import { judgeSnapshotCost, type Sample } from './scale-snapshot-cost.js';
import { type Interval, SnapshotWatch, stallDuring } from './scale-watch.js';

const connections = 32;
const turnSeconds = 10;
const warmUpSeconds = 3;
/**
 * Of changes that bring a node close to its next snapshot, on their way at once: half of the connections that a replica takes
 * for administration.
 */
const pumpedAtOnce = 32;
/** Changes a second while requests are measured, with a snapshot or without. */
const writesPerSecond = 50;
/** Entries that are still lacking when requests begin: the writes bring about the snapshot in the midst of a turn. */
const shortOf = 150;
const keyStore = 'bench-0';

/**
 * Snapshots of the node that serves, in turn with as long a time without, which of the two comes first in turn as well;
 * writes go on in both.
 */
export async function measureSnapshots(
  cluster: ScaleCluster,
  { rate, turns }: { readonly rate: number; readonly turns: number },
  findings: Findings,
): Promise<void> {
  const node = cluster.first;
  const watch = new SnapshotWatch(node);
  const caller = cluster.caller(node, connections);
  const plaintext = Buffer.alloc(32, 7).toString('base64');
  const send = async (): Promise<string | null> => {
    const { status } = await caller.encrypt(keyId, plaintext, false);
    return status === 200 ? null : String(status);
  };
  const [without, among]: [Sample[], Sample[]] = [[], []];
  const results: OpenLoopResult[] = [];
  const [snapshots, unwanted]: [Interval[], Interval[]] = [[], []];
  const load = async (samples: Sample[]): Promise<void> => {
    const inFlightMax = rate;
    await openLoop({ rate, durationSeconds: warmUpSeconds, inFlightMax }, send);
    const writes = new Writes(await cluster.leader());
    const onAnswer = (scheduledMs: number, latencyMs: number): void =>
      void samples.push({ scheduledMs, latencyMs });
    results.push(await openLoop({ rate, durationSeconds: turnSeconds, inFlightMax, onAnswer }, send));
    await writes.end();
  };
  /** What `work` brought about, all whole. */
  const snapshotsOf = async (work: () => Promise<void>): Promise<readonly Interval[]> => {
    const before = watch.intervals.length;
    await work();
    await eventually('the snapshot is whole', () => !watch.writing);
    return watch.intervals.slice(before);
  };
  const turnWithout = async (): Promise<void> => {
    const newest = watch.newestIndex;
    const lacking = await entriesLacking(node, watch);
    if (lacking < turnSeconds * writesPerSecond + shortOf) {
      await pump(await cluster.leader(), lacking + shortOf);
      await eventually('a snapshot before', () => watch.newestIndex > newest && !watch.writing);
    }
    unwanted.push(...(await snapshotsOf(() => load(without))));
  };
  let stallMs = 0;
  const turnAmong = async (): Promise<void> => {
    const lacking = await entriesLacking(node, watch);
    await pump(await cluster.leader(), lacking - shortOf);
    const measured = await stallDuring(node, () => snapshotsOf(() => load(among)));
    stallMs = Math.max(stallMs, measured.stallMs);
    snapshots.push(...measured.value);
  };
  for (let turn = 0; turn < turns; turn += 1) {
    const order = turn % 2 === 0 ? [turnWithout, turnAmong] : [turnAmong, turnWithout];
    for (const one of order) await one();
  }
  watch.close();
  await caller.destroy();
  const longestMs = Math.max(...snapshots.map(({ fromMs, toMs }) => toMs - fromMs));
  const failed = results
    .flatMap(({ failures }) => Object.values(failures))
    .reduce((sum, count) => sum + count, 0);
  const dropped = results.reduce((sum, result) => sum + result.dropped, 0);
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  findings.judge(
    `snapshots made while ${rate} requests/s were measured`,
    String(snapshots.length),
    `${turns}`,
    snapshots.length >= turns,
  );
  findings.judge('  the longest of them', ms(longestMs), '1 s', longestMs < 1_000);
  findings.note('  longest stall of the replica that makes them', ms(stallMs));
  findings.judge('snapshots in the turns without', String(unwanted.length), '0', unwanted.length === 0);
  judgeSnapshotCost({ without, among, snapshots }, findings);
  findings.judge('  failed, dropped', `${failed}, ${dropped}`, '0, 0', failed + dropped === 0);
}

async function entriesLacking(node: ChaosNode, watch: SnapshotWatch): Promise<number> {
  const appliedIndex = (await node.status())?.appliedIndex ?? 0;
  return watch.newestIndex + raftLogLimits.snapshotEntries - appliedIndex;
}

const change = (leader: ChaosNode): Promise<unknown> => leader.call('keystore.disable', { name: keyStore });

async function pump(leader: ChaosNode, entries: number): Promise<void> {
  // Each call listens for signals while it waits.
  process.setMaxListeners(2 * pumpedAtOnce);
  let left = entries;
  const one = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await change(leader);
    }
  };
  await Promise.all(Array.from({ length: pumpedAtOnce }, one));
}

/** Changes at a steady rate. */
class Writes {
  readonly #ended = new AbortController();
  readonly #running: Promise<void>;

  constructor(leader: ChaosNode) {
    this.#running = this.#run(leader);
  }

  async #run(leader: ChaosNode): Promise<void> {
    const begun: Promise<unknown>[] = [];
    while (!this.#ended.signal.aborted) {
      const write = change(leader);
      // Looked at in the end, with the others.
      write.catch(() => {});
      begun.push(write);
      await delay(1_000 / writesPerSecond, undefined, { signal: this.#ended.signal }).catch(() => {});
    }
    await Promise.all(begun);
  }

  /** Rejects when a change was not made. */
  end(): Promise<void> {
    this.#ended.abort();
    return this.#running;
  }
}
