import { readFileSync } from 'node:fs';

/** Of `utime` and `stime` in proc(5): USER_HZ, which is 100 wherever Node runs. */
const tickMs = 10;
const nanosecondsPerMs = 1_000_000;

/** What a process had of the cores, and what it went without, since it was started. Milliseconds. */
export interface CpuUse {
  /** Of all its threads. */
  readonly usedMs: number;
  /** How long its main thread, which is its event loop, could have run and was not let. */
  readonly waitedMs: number;
}

/** `null`: there is no such process any more. */
export function cpuUse(pid: number): CpuUse | null {
  try {
    // The name in brackets may hold anything; the fields after it begin with the third (proc_pid_stat(5)).
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const usedMs = (Number(fields[11]) + Number(fields[12])) * tickMs;
    const [, waitedNs = '0'] = readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ');
    return { usedMs, waitedMs: Number(waitedNs) / nanosecondsPerMs };
  } catch {
    return null;
  }
}

/** What the cores together did since the machine was started, milliseconds. */
export interface MachineUse {
  readonly busyMs: number;
  readonly idleMs: number;
}

export function machineUse(): MachineUse {
  // cpu user nice system idle iowait irq softirq steal (proc_stat(5))
  const [, user, nice, system, idle, iowait, irq, softirq, steal] = (
    readFileSync('/proc/stat', 'latin1').split('\n', 1)[0] ?? ''
  )
    .split(/\s+/)
    .map(Number);
  const sum = (...ticks: readonly (number | undefined)[]): number =>
    ticks.reduce<number>((total, each) => total + (each ?? 0) * tickMs, 0);
  return { busyMs: sum(user, nice, system, irq, softirq, steal), idleMs: sum(idle, iowait) };
}
