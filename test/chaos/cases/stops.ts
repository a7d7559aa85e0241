import { setTimeout as delay } from 'node:timers/promises';
import { type CaseContext, type ChaosCase, drawnMs } from '../chaos-case.js';

const stopMs = { min: 100, max: 30_000 } as const;

/** Stands still like a machine that swaps, or a virtual one that is moved, and goes on with what it believed. */
async function stopAndGo(
  { cluster, random, note, deadlineMs }: CaseContext,
  who: 'leader' | 'follower',
): Promise<void> {
  const stops: number[] = [];
  do {
    const { node: leader, status } = await cluster.leader();
    const node = who === 'leader' ? leader : random.pick(cluster.others(leader));
    const leftMs = Math.max(2_000, deadlineMs - performance.now());
    const forMs = drawnMs(random, stopMs.min, Math.min(stopMs.max, leftMs));
    stops.push(forMs);
    node.signal('replica', 'SIGSTOP');
    await delay(forMs);
    if (who === 'leader' && forMs > 5_000) await cluster.leader(cluster.others(node), status.term);
    node.resume();
    await delay(drawnMs(random, 200, 1_000));
  } while (performance.now() < deadlineMs);
  note(`stopped ${stops.length} times for ${Math.min(...stops)} to ${Math.max(...stops)} ms`);
}

export const stopLeader: ChaosCase = {
  name: 'stop-leader',
  nodes: 3,
  seconds: 40,
  run: (context) => stopAndGo(context, 'leader'),
};

export const stopFollower: ChaosCase = {
  name: 'stop-follower',
  nodes: 3,
  seconds: 30,
  run: (context) => stopAndGo(context, 'follower'),
};
