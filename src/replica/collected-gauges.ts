import { Gauge, type Registry } from 'prom-client';

/** A series per member, or whatever the label names: its name, never its id, and the value. */
export type MemberValues = Iterable<readonly [name: string, value: number | null]>;

/** Gauges whose values are looked up when somebody asks; where the value is `null`, there is no series. */
export class CollectedGauges {
  readonly #registers: readonly Registry[];

  constructor(registry: Registry) {
    this.#registers = [registry];
  }

  add(name: string, help: string, value: () => number | null): void {
    new Gauge({
      name,
      help,
      registers: [...this.#registers],
      collect() {
        const now = value();
        // Not `reset()`: of a gauge without labels that is 0, which says that all is well.
        if (now === null) this.remove();
        else this.set(now);
      },
    });
  }

  addPerMember(name: string, help: string, values: () => MemberValues): void {
    this.addPer('member', name, help, values);
  }

  /** A series for each value of one label. */
  addPer(label: string, name: string, help: string, values: () => MemberValues): void {
    new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [...this.#registers],
      collect() {
        this.reset();
        for (const [of, value] of values()) if (value !== null) this.set({ [label]: of }, value);
      },
    });
  }
}
