import { setTimeout as delay } from 'node:timers/promises';

/**
 * What a replica's code consists of, in parts of which none takes much more than a twentieth of a second to load. It need not
 * be complete: what is missing is loaded in the end.
 */
const parts: readonly (() => Promise<unknown>)[] = [
  () => import('pino'),
  () => import('@grpc/grpc-js'),
  () => import('prom-client'),
  () => import('zod'),
  () => import('../keystate/state-machine.js'),
  () => import('../replication/raft-log.js'),
  () => import('../replication/transport/peer-server.js'),
  () => import('./admin-api.js'),
];

/** For each microsecond that a part has taken, so many pass before the next one: a quarter of a core is used. */
const pauseRatio = 3;

/**
 * Loads a replica's code little by little, for a standby: also where the priority of a process cannot be lowered, those that
 * serve then wait for a part at most.
 */
export async function loadSlowly(): Promise<void> {
  for (const load of parts) {
    const before = process.cpuUsage();
    await load();
    const { user, system } = process.cpuUsage(before);
    await delay((pauseRatio * (user + system)) / 1_000);
  }
}
