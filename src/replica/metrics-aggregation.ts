import type { Hello } from '../ops/state-link.js';
import { processName } from '../ops/supervision.js';
import { type Labels, type MetricFamily, type MetricType, type Sample, spellLabels } from './exposition.js';
import { familiesOfJson } from './metrics-json.js';

/** Series summed over processes. Beyond it new ones are left out, and counted. */
const totalsMax = 50_000;
/** Processes whose last report is remembered: those that live and, for a link that comes back, those that left. */
const processesMax = 64;

/** A counter's, histogram's or summary's series, summed over every serving process that ever reported. */
interface Total {
  readonly sample: { readonly name: string; readonly labels: Labels };
  value: number;
}

interface Family {
  readonly help: string;
  readonly type: MetricType;
  readonly totals: Map<string, Total>;
}

interface ProcessReport {
  readonly label: string;
  /** Cumulative values as last reported, by series. */
  readonly cumulative: ReadonlyMap<string, number>;
  /** Series that stay the process's own. */
  readonly own: readonly MetricFamily[];
  readonly linked: boolean;
}

/** Gauges cannot be summed blindly, and a process's own figures are about that process. */
const isOwn = ({ name, type }: MetricFamily): boolean =>
  type === 'gauge' || /^(process|nodejs|xks_log)_/.test(name);

const seriesKey = ({ name, labels }: Sample): string =>
  name + spellLabels(Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))));

const withProcess = (family: MetricFamily, process: string): MetricFamily => ({
  ...family,
  samples: family.samples.map((sample) => ({ ...sample, labels: { ...sample.labels, process } })),
});

/**
 * Sums what serving processes count into totals that outlive them: a counter does not fall when a process dies, and
 * counts nothing twice when the replica was restarted.
 */
export class MetricsAggregation {
  readonly #families = new Map<string, Family>();
  /** By processId; in the order of their last reports. */
  readonly #processes = new Map<string, ProcessReport>();
  #totals = 0;
  #leftOut = 0;

  /** Series left out because there were too many. */
  get leftOut(): number {
    return this.#leftOut;
  }

  /** The process has a link, and reports from now on. */
  linked({ processId, slot, linkedBefore }: Hello): void {
    // Its first link to any replica: all that it ever counted is ours to count.
    if (linkedBefore || this.#processes.has(processId)) return;
    this.#processes.set(processId, {
      label: processName('serving', slot),
      cumulative: new Map(),
      own: [],
      linked: true,
    });
    this.#forgetOldest();
  }

  /** @param metrics `getMetricsAsJSON()` of the process: cumulative since its start. */
  report({ processId, slot }: Hello, metrics: readonly unknown[]): void {
    const families = familiesOfJson(metrics);
    const before = this.#processes.get(processId);
    // Counted by a replica before this one: what the counters hold now is where we begin.
    const isBaseline = before === undefined;
    const cumulative = new Map<string, number>();
    for (const family of families.filter((candidate) => !isOwn(candidate))) {
      for (const sample of family.samples) {
        const key = seriesKey(sample);
        cumulative.set(key, sample.value);
        const since = sample.value - (before?.cumulative.get(key) ?? 0);
        this.#add(family, key, sample, isBaseline ? 0 : Math.max(0, since));
      }
    }
    const label = processName('serving', slot);
    const own = families.filter(isOwn).map((family) => withProcess(family, label));
    this.#processes.delete(processId);
    this.#processes.set(processId, { label, cumulative, own, linked: true });
    this.#forgetOldest();
  }

  /** The process ended or lost its link: its gauges go, its counts stay. */
  unlinked({ processId }: Hello): void {
    const report = this.#processes.get(processId);
    if (report !== undefined) this.#processes.set(processId, { ...report, own: [], linked: false });
  }

  /**
   * Everything, by name.
   *
   * @param node what the replica knows of the node, as it is.
   * @param replica what every process has, of the replica's own process.
   */
  families(node: readonly unknown[], replica: readonly unknown[]): MetricFamily[] {
    const merged = new Map<string, MetricFamily>();
    const add = (family: MetricFamily): void => {
      const present = merged.get(family.name);
      // One family has one type (exposition format): of two that disagree the first stays.
      if (present !== undefined && present.type !== family.type) return;
      const samples = [...(present?.samples ?? []), ...family.samples];
      merged.set(family.name, { ...(present ?? family), samples });
    };
    for (const family of familiesOfJson(node)) add(family);
    for (const family of familiesOfJson(replica)) add(withProcess(family, 'replica'));
    for (const [name, { help, type, totals }] of this.#families) {
      const samples = [...totals.values()].map(({ sample, value }) => ({ ...sample, value }));
      add({ name, help, type, samples });
    }
    for (const { own } of this.#processes.values()) for (const family of own) add(family);
    return [...merged.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
  }

  #add({ name, help, type }: MetricFamily, key: string, sample: Sample, delta: number): void {
    let family = this.#families.get(name);
    if (family === undefined) {
      family = { help, type, totals: new Map() };
      this.#families.set(name, family);
    }
    const total = family.totals.get(key);
    if (total !== undefined) {
      total.value += delta;
    } else if (this.#totals >= totalsMax) {
      this.#leftOut += 1;
    } else {
      family.totals.set(key, { sample: { name: sample.name, labels: sample.labels }, value: delta });
      this.#totals += 1;
    }
  }

  #forgetOldest(): void {
    for (const [processId, { linked }] of this.#processes) {
      if (this.#processes.size <= processesMax) return;
      if (!linked) this.#processes.delete(processId);
    }
  }
}
