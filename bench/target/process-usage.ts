import { readdirSync, readFileSync } from 'node:fs';

/** A process as it stands. */
export interface ProcessUsage {
  readonly pid: number;
  /** What it is for: `supervisor`, `replica`, `serving`, or the program's name; of several trees with its number. */
  readonly role: string;
  /** User and system time since it was started, of all its threads. The kernel counts hundredths of a second. */
  readonly cpuMicros: number;
  /** Proportional set size (proc(5), smaps_rollup): pages shared by n processes count a nth. */
  readonly pssKiB: number;
}

/** USER_HZ, which is 100 on every Linux that Node runs on. */
const microsPerTick = 10_000;

/** The processes with these ids and all that came of them, those that are alive. */
export function processTree(roots: readonly number[]): readonly ProcessUsage[] {
  const treeOf = new Map<number, number>();
  const visit = (pid: number, tree: number): void => {
    if (treeOf.has(pid)) return;
    treeOf.set(pid, tree);
    for (const child of childrenOf(pid)) visit(child, tree);
  };
  for (const [index, pid] of roots.entries()) visit(pid, index + 1);
  return [...treeOf].flatMap(([pid, tree]) => {
    const usage = usageOf(pid);
    if (usage === null) return [];
    return [roots.length > 1 ? { ...usage, role: `${tree} ${usage.role}` } : usage];
  });
}

export function usageOf(pid: number): ProcessUsage | null {
  const stat = read(`/proc/${pid}/stat`);
  if (stat === null) return null;
  return {
    pid,
    // One that was a standby has written its new name over all of it, with blanks.
    role: roleOf((read(`/proc/${pid}/cmdline`) ?? '').split(/[\0 ]/), stat),
    cpuMicros: cpuMicrosOf(stat),
    pssKiB: Number(/^Pss:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/smaps_rollup`) ?? '')?.[1] ?? 0),
  };
}

/** utime and stime are the 12th and 13th fields after the name, which is in parentheses (proc(5)). */
export function cpuMicrosOf(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * microsPerTick;
}

export function roleOf(command: readonly string[], stat: string): string {
  const xksd = command.findIndex((part) => /\bxksd(\.js)?$/.test(part));
  const role = xksd < 0 ? undefined : command[xksd + 1];
  if (role === 'run') return 'supervisor';
  return role ?? stat.slice(stat.indexOf('(') + 1, stat.lastIndexOf(')'));
}

function childrenOf(pid: number): readonly number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((thread) =>
      (read(`/proc/${pid}/task/${thread}/children`) ?? '').split(' ').filter(Boolean).map(Number),
    );
  } catch {
    return [];
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
