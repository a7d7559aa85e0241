import { performance } from 'node:perf_hooks';
import type { Connection } from '../../bench/driver/connection.js';
import { Http1Connection } from '../../bench/driver/http1-connection.js';
import { errorText } from '../../src/base/guards.js';
import { AnswerJudge } from './answers.js';
import type { LoadCommand, LoadPlan, LoadReply } from './load-protocol.js';
import { kmsTimeoutMs, LoadRecord } from './load-record.js';
import { type LoadRequest, LoadRequests } from './load-requests.js';

/** The load, in a process of its own: at fixed times whatever becomes of the answers, until its parent disconnects. */

const turnMs = 1;
/** Then this process was not on time itself, and a request counts from when it was sent. */
const sentLateFromMs = 25;
const connectionsMin = 32;
/** Enough for answers that all take as long as KMS waits (Little's law), and some. */
const connectionsFor = (rate: number): number =>
  Math.max(connectionsMin, Math.ceil((rate * kmsTimeoutMs * 1.2) / 1_000));
/** Handshakes at once, at the start. */
const connectingMax = 16;

interface Sent extends LoadRequest {
  readonly number: number;
}

const epochMs = (): number => performance.timeOrigin + performance.now();

class Load {
  readonly record = new LoadRecord();
  readonly #rate: number;
  readonly #requests: LoadRequests;
  readonly #judge: AnswerJudge;
  readonly #idle: Connection<Sent>[] = [];
  readonly #waiting: Sent[] = [];

  constructor(plan: LoadPlan) {
    this.#rate = plan.rate;
    this.#requests = new LoadRequests(plan);
    this.#judge = new AnswerJudge(Buffer.from(plan.keyHex, 'hex'));
  }

  async connect({ url, ca }: LoadPlan): Promise<void> {
    const events = {
      answered: ({ number, question }: Sent, status: number, body: Buffer): void =>
        this.record.answered(number, this.#judge.judge(question, status, body), epochMs()),
      failed: ({ number }: Sent, what: string): void =>
        this.record.answered(number, { kind: 'failed', what }, epochMs()),
      free: (connection: Connection<Sent>): void => this.#free(connection),
    };
    for (let left = connectionsFor(this.#rate); left > 0; left -= connectingMax) {
      const connecting = Array.from({ length: Math.min(left, connectingMax) }, () =>
        Http1Connection.connect<Sent>({ url, ca }, events),
      );
      await Promise.all(connecting);
    }
  }

  start(): void {
    const startMs = epochMs();
    const intervalMs = 1_000 / this.#rate;
    let sequence = 0;
    setInterval(() => {
      const nowMs = epochMs();
      for (; startMs + sequence * intervalMs <= nowMs; sequence++) {
        const dueMs = startMs + sequence * intervalMs;
        const late = nowMs - dueMs >= sentLateFromMs;
        this.#send({ ...this.#requests.next(), number: this.record.due(late ? nowMs : dueMs, late) });
      }
    }, turnMs);
  }

  set spoiledShare(share: number) {
    this.#requests.spoiledShare = share;
  }

  #send(sent: Sent): void {
    for (let connection = this.#idle.shift(); connection !== undefined; connection = this.#idle.shift())
      if (connection.send(sent, sent.request.wire)) return;
    this.#waiting.push(sent);
  }

  #free(connection: Connection<Sent>): void {
    // KMS has given up on what has waited for so long.
    const nowMs = epochMs();
    for (;;) {
      const sent = this.#waiting.shift();
      if (sent === undefined) {
        this.#idle.push(connection);
        return;
      }
      if (this.record.hasWaited(sent.number, nowMs)) continue;
      if (!connection.send(sent, sent.request.wire)) this.#waiting.unshift(sent);
      return;
    }
  }
}

let load: Load | null = null;

async function carryOut(command: LoadCommand): Promise<LoadReply> {
  if (command.kind === 'start') {
    load = new Load(command.plan);
    await load.connect(command.plan);
    load.start();
    return { kind: 'done' };
  }
  if (load === null) throw new Error('not started');
  switch (command.kind) {
    case 'spoil':
      load.spoiledShare = command.share;
      return { kind: 'done' };
    case 'last-failure':
      return { kind: 'last-failure', atMs: load.record.lastFailureMs };
    case 'report':
      return { kind: 'report', report: load.record.report(command.stretch) };
  }
}

process.on('message', (command: LoadCommand) => {
  carryOut(command)
    .catch((thrown: unknown): LoadReply => ({ kind: 'failed', message: errorText(thrown) }))
    .then((reply) => process.send?.(reply));
});
process.once('disconnect', () => process.exit(0));
