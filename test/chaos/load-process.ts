import { randomBytes } from 'node:crypto';
import { openLoop } from '../../bench/open-loop.js';
import { LatencySlices, lateAfterMs } from './latency-slices.js';
import type { FailureKind, LoadMessage, LoadOrders } from './load.js';
import { XksCaller } from './xks-caller.js';

/**
 * The load, in a process of its own: encrypts and decrypts at a fixed rate through the balancer, half of it on
 * connections that are kept and half on new ones, as long as those are not too many. Tells its parent what failed, and
 * how much did not.
 */
const reportIntervalMs = 250;
/** Each costs both sides as much as some ten requests on a connection that is kept, as KMS keeps them. */
const newConnectionsPerSecondMax = 50;
const requestsPerAttempt = 2;
/** By Little's law enough for answers that take 35 ms; and never few. */
const connectionsFor = (rate: number): number => Math.max(8, Math.ceil(rate / 28));
/** More would only make a machine that is behind fall further behind. */
const inFlightMaxFor = (rate: number): number => Math.max(64, Math.ceil(rate / 4));
/** This process did not run for so long: what went wrong meanwhile says nothing of the nodes. */
const standstillMs = 1_000;
/** How often it looks whether it gets its turns. */
const turnIntervalMs = 10;
/** One round after the other until the parent disconnects. */
const roundSeconds = 10;

/** A parent that has just ended hears nothing more, and that is no error of ours. */
const told = (message: LoadMessage): void => {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
};

async function run({ access, keys, rate }: LoadOrders): Promise<void> {
  const caller = new XksCaller(access, connectionsFor(rate));
  const freshEvery = Math.max(2, Math.ceil(rate / newConnectionsPerSecondMax));
  let succeeded = 0;
  let slow = 0;
  let unsent = 0;
  const answered = (key: string, kind: FailureKind, sentMs: number, detail: string): string => {
    told({ failed: { key, kind, sentMs, endedMs: Date.now(), detail } });
    return kind;
  };
  let turnMs = Date.now();
  const slices = new LatencySlices();
  let dueMs = Date.now() + turnIntervalMs;
  setInterval(() => {
    const nowMs = Date.now();
    if (nowMs > dueMs) slices.stalled(dueMs, nowMs - dueMs);
    dueMs = nowMs + turnIntervalMs;
  }, turnIntervalMs);
  setInterval(() => {
    const nowMs = Date.now();
    if (nowMs - turnMs > standstillMs) told({ stoodStill: { fromMs: turnMs, untilMs: nowMs } });
    turnMs = nowMs;
    told({ counts: { succeeded, slow, unsent }, slices: slices.take(nowMs - reportIntervalMs) });
  }, reportIntervalMs);

  const succeed = (sentMs: number): void => {
    const endedMs = Date.now();
    succeeded += 1;
    if (endedMs - sentMs > lateAfterMs) slow += 1;
    slices.answered(sentMs, endedMs);
  };
  const attempt = async (sequence: number): Promise<string | null> => {
    const fresh = sequence % freshEvery === 0;
    const bytes = randomBytes(32);
    const key = keys[(bytes[0] ?? 0) % keys.length] ?? '';
    const plaintext = bytes.toString('base64');
    let sentMs = Date.now();
    try {
      const encrypted = await caller.encrypt(key, plaintext, fresh);
      if (encrypted.status !== 200) return answered(key, kindOf(encrypted.status), sentMs, text(encrypted));
      succeed(sentMs);
      sentMs = Date.now();
      const decrypted = await caller.decrypt(key, encrypted.body, fresh);
      if (decrypted.status !== 200) return answered(key, kindOf(decrypted.status), sentMs, text(decrypted));
      if (decrypted.body['plaintext'] !== plaintext)
        return answered(key, 'wrong', sentMs, 'another plaintext');
      succeed(sentMs);
      return null;
    } catch (failure) {
      return answered(key, 'connection', sentMs, String(failure));
    }
  };
  while (process.connected) {
    const { dropped } = await openLoop(
      {
        rate: rate / requestsPerAttempt,
        durationSeconds: roundSeconds,
        inFlightMax: inFlightMaxFor(rate),
      },
      attempt,
    );
    unsent += dropped * requestsPerAttempt;
  }
}

const text = (answer: object): string => JSON.stringify(answer);

/** An overloaded or a cautious node may say so; any other answer to a good request is a lie. */
const kindOf = (status: number): FailureKind => (status === 503 || status === 429 ? 'unavailable' : 'wrong');

process.once('message', (orders: LoadOrders) => void run(orders));
process.once('disconnect', () => process.exit(0));
