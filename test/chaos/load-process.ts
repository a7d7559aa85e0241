import { randomBytes } from 'node:crypto';
import { openLoop } from '../../bench/open-loop.js';
import type { FailureKind, LoadMessage, LoadOrders } from './load.js';
import { XksCaller } from './xks-caller.js';

/**
 * The load, in a process of its own: encrypts and decrypts at a fixed rate through the balancer, half of it on
 * connections that are kept and half on new ones. Tells its parent what failed, and how much did not.
 */
const reportIntervalMs = 250;
const connections = 8;
/** More would only make a machine that is behind fall further behind. */
const inFlightMax = 64;
/** This process did not run for so long: what went wrong meanwhile says nothing of the nodes. */
const standstillMs = 1_000;
/** One round after the other until the parent disconnects. */
const roundSeconds = 10;

const told = (message: LoadMessage): void => {
  if (process.connected) process.send?.(message);
};

async function run({ access, keys, rate }: LoadOrders): Promise<void> {
  const caller = new XksCaller(access, connections);
  let succeeded = 0;
  let slow = 0;
  const answered = (key: string, kind: FailureKind, sentMs: number, detail: string): string => {
    told({ failed: { key, kind, sentMs, endedMs: Date.now(), detail } });
    return kind;
  };
  let turnMs = Date.now();
  setInterval(() => {
    const nowMs = Date.now();
    if (nowMs - turnMs > standstillMs) told({ stoodStill: { fromMs: turnMs, untilMs: nowMs } });
    turnMs = nowMs;
    told({ succeeded, slow });
  }, reportIntervalMs);

  const attempt = async (sequence: number): Promise<string | null> => {
    const key = keys[sequence % keys.length] ?? '';
    const fresh = sequence % 2 === 0;
    const plaintext = randomBytes(32).toString('base64');
    let sentMs = Date.now();
    try {
      const encrypted = await caller.encrypt(key, plaintext, fresh);
      if (encrypted.status !== 200) return answered(key, kindOf(encrypted.status), sentMs, text(encrypted));
      succeeded += 1;
      if (Date.now() - sentMs > 250) slow += 1;
      sentMs = Date.now();
      const decrypted = await caller.decrypt(key, encrypted.body, fresh);
      if (decrypted.status !== 200) return answered(key, kindOf(decrypted.status), sentMs, text(decrypted));
      if (decrypted.body['plaintext'] !== plaintext)
        return answered(key, 'wrong', sentMs, 'another plaintext');
      succeeded += 1;
      if (Date.now() - sentMs > 250) slow += 1;
      return null;
    } catch (failure) {
      return answered(key, 'connection', sentMs, String(failure));
    }
  };
  while (process.connected) {
    // Two requests an attempt.
    await openLoop({ rate: rate / 2, durationSeconds: roundSeconds, inFlightMax }, attempt);
  }
}

const text = (answer: object): string => JSON.stringify(answer);

/** An overloaded or a cautious node may say so; any other answer to a good request is a lie. */
const kindOf = (status: number): FailureKind => (status === 503 || status === 429 ? 'unavailable' : 'wrong');

process.once('message', (orders: LoadOrders) => void run(orders));
process.once('disconnect', () => process.exit(0));
