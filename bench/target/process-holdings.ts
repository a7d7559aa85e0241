import { readdirSync } from 'node:fs';

/** What a process has open. */
export interface ProcessHoldings {
  /** Files, sockets, event descriptors. */
  readonly descriptors: number;
  readonly threads: number;
}

/** `null`: it has ended. */
export function openedBy(pid: number): ProcessHoldings | null {
  try {
    return {
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      threads: readdirSync(`/proc/${pid}/task`).length,
    };
  } catch {
    return null;
  }
}
