import { performance } from 'node:perf_hooks';
import type { Connection } from './connection.js';
import { LatencyHistogram, type SparseCounts } from './latency-histogram.js';
import { LoadSeries, type SeriesPoint } from './load-series.js';
import { pace } from './pacer.js';
import type { PreparedRequest } from './prepared-requests.js';
import { evenSchedule } from './schedule.js';
import { failureName, holdsPlaintext } from './xks-messages.js';

/**
 * `open`: at fixed times whatever becomes of the answers. `closed`: every connection sends its next request when the
 * last was answered, which shows the highest rate and hides every wait.
 */
export type LoadShape =
  | { readonly kind: 'open'; readonly rate: number; readonly seconds: number }
  | { readonly kind: 'closed'; readonly seconds: number };

/** Counts of requests; microseconds. */
export interface LoadResult {
  readonly shape: LoadShape;
  readonly scheduled: number;
  readonly sent: number;
  readonly answered: number;
  /** Not sent: as many as are sent in a second were waiting already. */
  readonly dropped: number;
  /** Sent 25 ms or more after its time because the driver, not a connection, was busy. */
  readonly late: number;
  readonly failures: Readonly<Record<string, number>>;
  /** From the time it was due to the end of its answer, of answers with status 200. */
  readonly latency: { readonly counts: SparseCounts; readonly maxMicros: number };
  readonly series: readonly SeriesPoint[];
  /** From the first request to the last answer. */
  readonly elapsedMs: number;
  /** Of the driver's process meanwhile. */
  readonly driverCpuMicros: number;
}

/** An answered encrypt, kept for a look at whether it can be decrypted. */
export interface Sample {
  readonly request: PreparedRequest;
  readonly body: Buffer;
}

/** A request on its way. */
export interface Sent {
  readonly request: PreparedRequest;
  readonly dueMs: number;
  /** Which run its answer belongs to, also when that has ended; `null`: to none. */
  readonly run: LoadRun | null;
}

/** What a decrypt is counted under that gave something else than was encrypted. */
export const otherPlaintext = 'decrypt gave another plaintext';

const lateFromMs = 25;
/** After the last request was sent. */
export const answersWithinMsDefault = 5_000;
/** A failure text for each request would be a table without end. */
const failureNamesMax = 20;
const samplesMax = 100;

/** One run of load over connections that are there already. */
export class LoadRun {
  readonly #shape: LoadShape;
  readonly #next: () => PreparedRequest;
  readonly #idle: Connection<Sent>[];
  readonly #finished: (run: LoadRun) => void;
  readonly #answersWithinMs: number;
  readonly #histogram = new LatencyHistogram();
  readonly #series: LoadSeries;
  readonly #failures: Record<string, number> = {};
  readonly #cpu = process.cpuUsage();
  readonly #waiting: Sent[] = [];
  #waitingFrom = 0;
  readonly #sampleEvery: number;
  readonly samples: Sample[] = [];
  #startMs = 0;
  #endMs = 0;
  #scheduled = 0;
  #sent = 0;
  #inFlight = 0;
  #dropped = 0;
  #late = 0;
  #answers = 0;
  #allScheduled = false;
  #ended = false;

  /** `idle`: connections, as often as each may take a request. They come back through `free`. */
  constructor(
    shape: LoadShape,
    idle: Connection<Sent>[],
    next: () => PreparedRequest,
    finished: (run: LoadRun) => void,
    answersWithinMs: number,
  ) {
    this.#shape = shape;
    this.#idle = idle;
    this.#next = next;
    this.#finished = finished;
    this.#answersWithinMs = answersWithinMs;
    this.#series = new LoadSeries(shape.seconds);
    const expected = shape.kind === 'open' ? shape.rate * shape.seconds : 5_000 * shape.seconds;
    this.#sampleEvery = Math.max(1, Math.floor(expected / samplesMax));
  }

  start(): void {
    this.#startMs = performance.now();
    if (this.#shape.kind === 'open') this.#sendOnTime(this.#shape.rate, this.#shape.seconds);
    else this.#sendWhenFree(this.#shape.seconds);
  }

  #sendOnTime(rate: number, seconds: number): void {
    const schedule = evenSchedule(rate, seconds);
    const waitingMax = Math.max(1, rate);
    pace(() => {
      const due = schedule.dueBy(performance.now() - this.#startMs);
      for (; this.#scheduled < due; this.#scheduled++) {
        const dueMs = this.#startMs + schedule.dueMs(this.#scheduled);
        if (performance.now() - dueMs >= lateFromMs) this.#late += 1;
        if (this.#waiting.length - this.#waitingFrom >= waitingMax) this.#dropped += 1;
        else this.#send({ request: this.#next(), dueMs, run: this });
      }
      if (this.#scheduled < schedule.total) return this.#startMs + schedule.dueMs(this.#scheduled);
      this.#lastWasSent();
      return null;
    });
  }

  #sendWhenFree(seconds: number): void {
    setTimeout(() => this.#lastWasSent(), seconds * 1_000);
    for (const connection of this.#idle.splice(0)) this.free(connection);
  }

  #send(sent: Sent): void {
    for (let connection = this.#idle.shift(); connection !== undefined; connection = this.#idle.shift()) {
      if (this.#give(connection, sent)) return;
    }
    this.#waiting.push(sent);
  }

  #give(connection: Connection<Sent>, sent: Sent): boolean {
    if (!connection.send(sent, sent.request.wire)) return false;
    this.#sent += 1;
    this.#inFlight += 1;
    return true;
  }

  /** A connection may take another request. */
  free(connection: Connection<Sent>): void {
    if (this.#shape.kind === 'closed' && !this.#allScheduled) {
      this.#scheduled += 1;
      this.#give(connection, { request: this.#next(), dueMs: performance.now(), run: this });
      return;
    }
    const sent = this.#waiting[this.#waitingFrom];
    if (sent === undefined) {
      this.#idle.push(connection);
      return;
    }
    if (!this.#give(connection, sent)) return;
    this.#waitingFrom += 1;
    if (this.#waitingFrom > 1_000) {
      this.#waiting.splice(0, this.#waitingFrom);
      this.#waitingFrom = 0;
    }
  }

  answered(sent: Sent, status: number, body: Buffer): void {
    const nowMs = performance.now();
    this.#inFlight -= 1;
    if (this.#ended) return;
    const { operation, message } = sent.request;
    if (status !== 200) this.#fail(sent, failureName(status, body));
    else if (operation === 'decrypt' && !holdsPlaintext(body, message.plaintext))
      this.#fail(sent, otherPlaintext);
    else {
      const micros = (nowMs - sent.dueMs) * 1_000;
      this.#histogram.record(micros);
      this.#series.answered(sent.dueMs - this.#startMs, micros);
      this.#answers += 1;
      if (operation === 'encrypt' && this.#answers >= this.samples.length * this.#sampleEvery)
        this.samples.push({ request: sent.request, body: Buffer.from(body) });
    }
    this.#endMs = nowMs;
    this.#endWhenAnswered();
  }

  failed(sent: Sent, reason: string): void {
    this.#inFlight -= 1;
    if (this.#ended) return;
    this.#fail(sent, reason);
    this.#endWhenAnswered();
  }

  #fail(sent: Sent, reason: string): void {
    this.#count(reason, 1);
    this.#series.failed(sent.dueMs - this.#startMs);
  }

  #count(reason: string, times: number): void {
    const known = reason in this.#failures || Object.keys(this.#failures).length < failureNamesMax;
    const name = known ? reason : 'other';
    this.#failures[name] = (this.#failures[name] ?? 0) + times;
  }

  #lastWasSent(): void {
    this.#allScheduled = true;
    this.#endWhenAnswered();
    if (this.#ended) return;
    setTimeout(() => this.#end(), this.#answersWithinMs).unref();
  }

  #endWhenAnswered(): void {
    if (this.#allScheduled && this.#inFlight === 0 && this.#waiting.length === this.#waitingFrom) this.#end();
  }

  #end(): void {
    if (this.#ended) return;
    this.#ended = true;
    const unanswered = this.#inFlight + this.#waiting.length - this.#waitingFrom;
    if (unanswered > 0) this.#count(`no answer within ${this.#answersWithinMs / 1_000} s`, unanswered);
    this.#finished(this);
  }

  result(): LoadResult {
    const { user, system } = process.cpuUsage(this.#cpu);
    return {
      shape: this.#shape,
      scheduled: this.#scheduled,
      sent: this.#sent,
      answered: this.#answers,
      dropped: this.#dropped,
      late: this.#late,
      failures: this.#failures,
      latency: { counts: this.#histogram.sparse(), maxMicros: this.#histogram.maxMicros },
      series: this.#series.points(),
      elapsedMs: this.#endMs - this.#startMs,
      driverCpuMicros: user + system,
    };
  }
}
