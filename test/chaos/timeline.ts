import { isJsonObject } from '../../src/base/guards.js';
import type { ChaosCluster } from './chaos-cluster.js';
import { type CpuUse, cpuUse, type MachineUse, machineUse } from './cpu-samples.js';
import { type LatencySlice, sliceMs } from './latency-slices.js';

/** Lines of a node's log that say what may cost others time. */
const told = [
  'starting',
  'child died',
  'child is ready',
  'child is not ready',
  'no leader is known',
  'another leader',
  'serving process linked',
  'no link to the replica: going on with the key state at hand',
  'key state received',
  'the replica is up',
  'the replica cannot start now',
  'the durable log failed; the replica ends',
  'replication',
] as const;

interface Sample {
  readonly atMs: number;
  readonly machine: MachineUse;
  /** By what the process is called in the line of its slice. */
  readonly uses: ReadonlyMap<string, { readonly pid: number } & CpuUse>;
}

/**
 * What went on, slice by slice of 50 ms: how long answers took, what each process used of the cores and waited for them,
 * and what the nodes logged. For a person who looks for what makes requests late; costs about a hundredth of a core.
 */
export class Timeline {
  readonly #cluster: ChaosCluster;
  readonly #logsFrom: ReadonlyMap<string, number>;
  readonly #slices = new Map<number, LatencySlice>();
  readonly #samples: Sample[] = [];
  readonly #events: { readonly atMs: number; readonly text: string }[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(cluster: ChaosCluster) {
    this.#cluster = cluster;
    this.#logsFrom = new Map(cluster.nodes.map((node) => [node.name, node.logEnd()]));
    cluster.load.watch((slices) => this.#add(slices));
    this.#timer = setInterval(() => this.#sample(), sliceMs);
  }

  /** Something that was done to the nodes, now. */
  event(text: string): void {
    this.#events.push({ atMs: Date.now(), text });
  }

  /** Ends it. One line a slice. */
  stop(): string {
    clearInterval(this.#timer);
    this.#cluster.load.watch(() => {});
    for (const node of this.#cluster.nodes) {
      for (const line of node.log(this.#logsFrom.get(node.name)).split('\n')) this.#hear(node.name, line);
    }
    const lines: string[] = [];
    for (const [place, sample] of this.#samples.entries()) {
      const before = this.#samples[place - 1];
      if (before !== undefined) lines.push(this.#line(before, sample));
    }
    return `${lines.join('\n')}\n`;
  }

  #add(slices: readonly LatencySlice[]): void {
    for (const slice of slices) {
      const before = this.#slices.get(slice.atMs);
      this.#slices.set(slice.atMs, {
        atMs: slice.atMs,
        answered: slice.answered + (before?.answered ?? 0),
        late: slice.late + (before?.late ?? 0),
        worstMs: Math.max(slice.worstMs, before?.worstMs ?? 0),
        senderStallMs: Math.max(slice.senderStallMs, before?.senderStallMs ?? 0),
      });
    }
  }

  #sample(): void {
    const uses = new Map<string, { readonly pid: number } & CpuUse>();
    for (const [name, pid] of this.#cluster.processes()) {
      const use = cpuUse(pid);
      if (use !== null) uses.set(name, { pid, ...use });
    }
    this.#samples.push({ atMs: Date.now(), machine: machineUse(), uses });
  }

  #hear(node: string, line: string): void {
    try {
      const entry: unknown = JSON.parse(line);
      if (!isJsonObject(entry)) return;
      const { message, time, process, level, pid: _, ...rest } = entry;
      if (!told.some((one) => one === message) && level !== 'error') return;
      const text = `${node} ${process}: ${message} ${JSON.stringify(rest).slice(0, 120)}`;
      this.#events.push({ atMs: Date.parse(String(time)), text });
    } catch {
      // The last line may be half written.
    }
  }

  #line(before: Sample, sample: Sample): string {
    let [answered, late, worstMs, stallMs] = [0, 0, 0, 0];
    for (const slice of this.#slices.values()) {
      if (slice.atMs < before.atMs || slice.atMs >= sample.atMs) continue;
      answered += slice.answered;
      late += slice.late;
      worstMs = Math.max(worstMs, slice.worstMs);
      stallMs = Math.max(stallMs, slice.senderStallMs);
    }
    let oursMs = 0;
    const uses = [...sample.uses].map(([name, { pid, usedMs, waitedMs }]) => {
      const last = before.uses.get(name);
      const since = last?.pid === pid ? last : { usedMs: 0, waitedMs: 0 };
      oursMs += usedMs - since.usedMs;
      return `${name} ${usedMs - since.usedMs}/${Math.round(waitedMs - since.waitedMs)}`;
    });
    const idleMs = sample.machine.idleMs - before.machine.idleMs;
    const busyMs = sample.machine.busyMs - before.machine.busyMs;
    const events = this.#events.filter(({ atMs }) => atMs >= before.atMs && atMs < sample.atMs);
    return [
      new Date(before.atMs).toISOString().slice(11, 23),
      `${answered} answered, ${late} late, worst ${worstMs} ms, sender stalled ${stallMs}`.padEnd(62),
      `idle ${idleMs}, others ${busyMs - oursMs}`.padEnd(20),
      uses.join(' '),
      ...events.map(({ text }) => `\n             * ${text}`),
    ].join('  ');
  }
}
