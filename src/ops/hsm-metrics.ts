import { Counter, Gauge, type Registry } from 'prom-client';
import { CountedHistogram, DurationCounts } from './counted-histogram.js';
import type { TokenStatus } from './state-link.js';

/** Seconds. From what a token in the same machine takes to a request's deadline. */
const callDurationBuckets = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25,
];

/** What a fleet of several tokens has counted of one of them since the process started. */
export interface HsmCounts {
  readonly hsm: string;
  readonly outstanding: number;
  readonly retries: number;
  readonly hedges: number;
  readonly breakerIsOpen: boolean;
  readonly failures: Readonly<Record<string, number>>;
}

/** What one token's sessions for cryptography have called since the process started. */
export interface HsmCalls {
  readonly hsm: string;
  /** Upper bounds of durations, seconds, ascending. */
  readonly boundsSeconds: readonly number[];
  readonly functions: readonly {
    readonly functionName: string;
    /** One number of calls for each bound, and one for those beyond all of them. */
    readonly byDuration: readonly number[];
    readonly seconds: number;
  }[];
  readonly operations: number;
  readonly roundTrips: number;
  readonly repeats: number;
}

export interface HsmMetricsSources {
  readonly status: () => readonly TokenStatus[];
  /** Empty where there is one token: nothing is chosen, retried or hedged there. */
  readonly counts: () => readonly HsmCounts[];
  /** Of every token. */
  readonly calls: () => readonly HsmCalls[];
}

/** The metrics of the tokens of one serving process. `hsm` is a serial, or else a label. */
export interface HsmMetrics {
  /** Each answer of a token, also one that nobody waits for any more. */
  observeCall(hsm: string, operation: 'encrypt' | 'decrypt', seconds: number): void;
}

/** Counters that are kept elsewhere, as Prometheus wants to see them. */
class CountedElsewhere<Label extends string> {
  readonly #counter: Counter<Label>;
  readonly #counted = new Map<string, number>();

  constructor(counter: Counter<Label>) {
    this.#counter = counter;
  }

  /** @param source what `total` is of, whatever it is called now. */
  set(source: string, labels: Record<Label, string>, total: number): void {
    this.#counter.inc(labels, total - (this.#counted.get(source) ?? 0));
    this.#counted.set(source, total);
  }
}

export function createHsmMetrics(registry: Registry, sources: HsmMetricsSources): HsmMetrics {
  const registers = [registry];
  const labelNames = ['hsm'] as const;
  // Registered first: what it sets in the others is then of the same moment.
  new Gauge({
    name: 'xks_ekm_instances',
    help: 'Tokens by the state that GetHealthStatus reports.',
    labelNames: ['state'] as const,
    registers,
    collect() {
      const tokens = sources.status();
      for (const state of ['ACTIVE', 'DEGRADED', 'UNAVAILABLE'] as const) {
        this.set({ state }, tokens.filter((token) => token.state === state).length);
      }
      // A token is called otherwise once its serial is known: under its former name nothing is so any more.
      for (const each of [sessions, stuck, outstanding, breakers]) each.reset();
      for (const token of tokens) {
        const hsm = token.serial ?? token.label ?? token.uri;
        sessions.set({ hsm }, token.sessions);
        stuck.set({ hsm }, token.stuckCells);
      }
      for (const [index, counts] of sources.counts().entries()) {
        const { hsm } = counts;
        const place = String(index);
        outstanding.set({ hsm }, counts.outstanding);
        breakers.set({ hsm }, counts.breakerIsOpen ? 1 : 0);
        retries.set(place, { hsm }, counts.retries);
        hedges.set(place, { hsm }, counts.hedges);
        for (const [kind, total] of Object.entries(counts.failures)) {
          failures.set(`${place} ${kind}`, { hsm, kind }, total);
        }
      }
      for (const [index, { hsm, ...calls }] of sources.calls().entries()) {
        const place = String(index);
        operations.set(place, { hsm }, calls.operations);
        roundTrips.set(place, { hsm }, calls.roundTrips);
        repeats.set(place, { hsm }, calls.repeats);
      }
    },
  });
  const durations = new Map<string, Record<'encrypt' | 'decrypt', DurationCounts>>();
  new CountedHistogram({
    name: 'xks_hsm_call_duration_seconds',
    help: 'Time that a token took for an operation, by HSM; only where a node has several.',
    labelNames: ['hsm', 'operation'] as const,
    registry,
    counted: () => [...durations.values()].flatMap(({ encrypt, decrypt }) => [encrypt, decrypt]),
  });
  const failures = new CountedElsewhere(
    new Counter({
      name: 'xks_hsm_failures_total',
      help: 'Operations that a token did not do, by HSM and kind; the caller may have had its answer from another.',
      labelNames: ['hsm', 'kind'] as const,
      registers,
    }),
  );
  const retries = new CountedElsewhere(
    new Counter({
      name: 'xks_hsm_retries_total',
      help: 'Operations that went to another token because this one failed, refused or said nothing.',
      labelNames,
      registers,
    }),
  );
  const hedges = new CountedElsewhere(
    new Counter({
      name: 'xks_hsm_hedges_total',
      help: 'Operations that this token was asked for, too, because another one was slow.',
      labelNames,
      registers,
    }),
  );
  const ofEachToken = (name: string, help: string): CountedElsewhere<'hsm'> =>
    new CountedElsewhere(new Counter({ name, help, labelNames, registers }));
  const operations = ofEachToken(
    'xks_hsm_operations_total',
    'Operations that a token carried out or failed.',
  );
  const roundTrips = ofEachToken('xks_hsm_round_trips_total', 'PKCS#11 calls that those operations took.');
  const repeats = ofEachToken(
    'xks_hsm_repeats_total',
    'Operations that a token was asked for again, in a new session or with the key found anew.',
  );
  new CountedHistogram({
    name: 'xks_pkcs11_call_duration_seconds',
    help: 'Time that a PKCS#11 call of an encrypt or decrypt took, by HSM and function.',
    labelNames: ['hsm', 'function'] as const,
    registry,
    counted: () =>
      sources.calls().flatMap(({ hsm, boundsSeconds, functions }) =>
        functions.map(({ functionName, byDuration, seconds }) => ({
          labels: { hsm, function: functionName },
          boundsSeconds,
          byDuration,
          seconds,
        })),
      ),
  });
  const gauge = (name: string, help: string): Gauge<'hsm'> =>
    new Gauge({ name, help, labelNames, registers });
  const outstanding = gauge(
    'xks_hsm_outstanding',
    'Operations that a token was asked for and has not answered.',
  );
  const breakers = gauge(
    'xks_hsm_breaker_open',
    '1 while a token is out of use because too much failed, else 0.',
  );
  const sessions = gauge('xks_hsm_sessions', 'PKCS#11 sessions that are open.');
  const stuck = gauge('xks_hsm_stuck_calls', 'Calls that did not return by the deadline of their request.');
  return {
    observeCall: (hsm, operation, seconds) => {
      const known = durations.get(hsm);
      const of = known ?? {
        encrypt: new DurationCounts({ hsm, operation: 'encrypt' }, callDurationBuckets),
        decrypt: new DurationCounts({ hsm, operation: 'decrypt' }, callDurationBuckets),
      };
      if (known === undefined) durations.set(hsm, of);
      of[operation].observe(seconds);
    },
  };
}
