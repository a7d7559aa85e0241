import { childrenOf } from '../support/running-node.js';
import { type ReaperOrders, startedProcess } from './reaper.js';
import { unmount } from './small-disk.js';

/** Waits for the end of its parent, and ends what that has left (`reaper.ts`). */
let orders: ReaperOrders = { processes: [], mounts: [] };

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended by itself.
  }
}

async function reap(): Promise<void> {
  const left = orders.processes.filter(({ pid, startTime }) => startedProcess(pid)?.startTime === startTime);
  // Children are known as such only while their parent is there; one that stands still would never see it end.
  const children = left.flatMap(({ pid }) => childrenOf(pid));
  for (const pid of [...left.map((one) => one.pid), ...children]) kill(pid);
  for (const mount of orders.mounts) await unmount(mount).catch(() => {});
}

process.on('message', (message: ReaperOrders) => {
  orders = message;
});
process.once('disconnect', () => void reap().finally(() => process.exit(0)));
process.send?.('ready');
