import { readFileSync } from 'node:fs';

/** Of the kernel's accounts (proc(5)): USER_HZ, which Linux fixes at 100 for all that it tells programs. */
const msPerClockTick = 10;

export type ProcessKind = 'supervisor' | 'replica' | 'serving';

export interface ProcessCpu {
  readonly node: string;
  readonly kind: ProcessKind;
  readonly pid: number;
  /** User and system time since its start. */
  readonly cpuMs: number;
}

interface NodeEntry {
  readonly name: string;
  /** Its supervisor's. */
  readonly pid: number;
}

function childrenOf(pid: number): readonly number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number);
}

function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The second field is the name, in parentheses, with whatever in it; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * msPerClockTick;
}

const kindOf = (pid: number): ProcessKind =>
  readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes('replica') ? 'replica' : 'serving';

/** What every process of the demo's nodes has used so far. @param nodesFile the demo's `nodes.json`. */
export function nodeCpu(nodesFile: string): readonly ProcessCpu[] {
  const nodes: readonly NodeEntry[] = JSON.parse(readFileSync(nodesFile, 'utf8'));
  return nodes.flatMap(({ name, pid }): readonly ProcessCpu[] => [
    { node: name, kind: 'supervisor', pid, cpuMs: cpuMsOf(pid) },
    ...childrenOf(pid).map((child) => ({
      node: name,
      kind: kindOf(child),
      pid: child,
      cpuMs: cpuMsOf(child),
    })),
  ]);
}

/** What processes used over several times, by node and kind: `node-1 replica` → ms. */
export class CpuTotals {
  readonly ms = new Map<string, number>();

  /** Between two looks. A process that began meanwhile counts from its start; one that ended does not. */
  add(before: readonly ProcessCpu[], after: readonly ProcessCpu[]): void {
    const earlier = new Map(before.map(({ pid, cpuMs }) => [pid, cpuMs]));
    for (const { node, kind, pid, cpuMs } of after) {
      const name = `${node} ${kind}`;
      this.ms.set(name, (this.ms.get(name) ?? 0) + cpuMs - (earlier.get(pid) ?? 0));
    }
  }
}
