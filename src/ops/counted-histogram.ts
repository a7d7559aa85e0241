import { Histogram, type MetricValueWithName, type Registry } from 'prom-client';

type Sample = MetricValueWithName<string>;

/** What was counted of one set of labels since the process started. */
export interface CountedDurations {
  readonly labels: Readonly<Record<string, string>>;
  /** Upper bounds, seconds, ascending. */
  readonly boundsSeconds: readonly number[];
  /** One number for each bound, and one for what is beyond all of them. */
  readonly byDuration: readonly number[];
  /** Of all together. */
  readonly seconds: number;
}

/** Counts durations of one set of labels. */
export class DurationCounts implements CountedDurations {
  readonly labels: Readonly<Record<string, string>>;
  readonly boundsSeconds: readonly number[];
  readonly byDuration: number[];
  seconds = 0;

  constructor(labels: Readonly<Record<string, string>>, boundsSeconds: readonly number[]) {
    this.labels = labels;
    this.boundsSeconds = boundsSeconds;
    this.byDuration = Array<number>(boundsSeconds.length + 1).fill(0);
  }

  /** A bound belongs to what it bounds. */
  observe(seconds: number): void {
    const bounds = this.boundsSeconds;
    let place = 0;
    while (place < bounds.length && seconds > (bounds[place] ?? 0)) place += 1;
    this.byDuration[place] = (this.byDuration[place] ?? 0) + 1;
    this.seconds += seconds;
  }
}

/**
 * A histogram that is counted where the durations are, and only read here: prom-client's own looks up labels and bucket by
 * text with each observation, about a microsecond of every request. Read as JSON, as the replica takes what serving processes
 * report.
 */
export class CountedHistogram extends Histogram<string> {
  readonly #name: string;
  readonly #counted: () => Iterable<CountedDurations>;

  constructor(options: {
    readonly name: string;
    readonly help: string;
    readonly labelNames: readonly string[];
    readonly registry: Registry;
    readonly counted: () => Iterable<CountedDurations>;
  }) {
    const { name, help, registry, counted } = options;
    super({ name, help, labelNames: [...options.labelNames], registers: [registry] });
    this.#name = name;
    this.#counted = counted;
  }

  override async get(): ReturnType<Histogram<string>['get']> {
    const values = [...this.#counted()].flatMap((series) => this.#samples(series));
    return { ...(await super.get()), values };
  }

  /** Prometheus' buckets hold what the smaller ones do as well. */
  #samples({ labels, boundsSeconds, byDuration, seconds }: CountedDurations): Sample[] {
    let count = 0;
    const samples = byDuration.map((durations, index): Sample => {
      count += durations;
      const le = boundsSeconds[index] ?? '+Inf';
      return { metricName: `${this.#name}_bucket`, labels: { le, ...labels }, value: count };
    });
    samples.push(
      { metricName: `${this.#name}_sum`, labels, value: seconds },
      { metricName: `${this.#name}_count`, labels, value: count },
    );
    return samples;
  }
}
