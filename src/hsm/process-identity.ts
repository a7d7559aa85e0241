import { readFileSync } from 'node:fs';

/** Which process, over restarts and reuse of its id: `pid@start`, the start in clock ticks since boot (proc(5)). */
export function processIdentity(pid: number = process.pid): string {
  return `${pid}@${startOf(pid) ?? 'ended'}`;
}

/** Whether the process that had this identity runs. One that is dead and not yet waited for does not. */
export function isProcessRunning(identity: string): boolean {
  const [pid = '', start] = identity.split('@');
  return /^[0-9]+$/.test(pid) && startOf(Number(pid)) === start;
}

function startOf(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name in brackets, which may hold anything.
    const [state, ...rest] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || state === 'X' ? null : (rest[18] ?? null);
  } catch {
    return null;
  }
}
