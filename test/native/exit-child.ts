import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { systemClock } from '../../src/base/clock.js';
import type { CryptoPool } from '../../src/hsm/crypto-pool.js';
import { encryption, farDeadline, importKnownKey, startPool } from '../support/crypto-pool-fixture.js';
import { logIn, type TokenAccess } from '../support/logged-in-token.js';

/**
 * A process that ends at one stage of the addon's life, for exit.test.ts: `exit-child.js STAGE SESSIONS TOKEN`.
 */

const [stage = '', sessionsText = '1', accessText = '{}'] = process.argv.slice(2);
const sessions = Number(sessionsText);
/** Nothing is undone: that is what is tested. */
const scope = {
  teardown: () => {},
  fail: (message: string): never => {
    throw new Error(message);
  },
};

const token = logIn(scope, JSON.parse(accessText) as TokenAccess);
const key = importKnownKey(token);
const encrypt = (pool: CryptoPool, deadlineMs: number) => pool.encrypt(encryption(key.object), deadlineMs);

async function keepBusy(pool: CryptoPool): Promise<void> {
  for (let i = 0; i < 40; i++) {
    void (async () => {
      while ((await encrypt(pool, farDeadline())).ok);
    })();
  }
  await encrypt(pool, farDeadline());
}

/** The shim holds its next encrypt; resolves when the request has been answered without it. */
async function hang(pool: CryptoPool): Promise<void> {
  const answer = await encrypt(pool, systemClock.monotonicMs() + 2_000);
  if (answer.ok || answer.error.kind !== 'deadline')
    throw new Error(`did not hang: ${JSON.stringify(answer)}`);
}

async function exitWhileRunning(): Promise<never> {
  await keepBusy(await startPool(scope, token, sessions));
  process.exit(7);
}

async function throwWhileRunning(): Promise<void> {
  await keepBusy(await startPool(scope, token, sessions));
  setImmediate(() => {
    throw new Error('thrown on purpose');
  });
}

async function exitWhileHung(): Promise<never> {
  await hang(await startPool(scope, token, sessions));
  process.exit(7);
}

/** Closes the pool after `use` and lets the process end by itself. */
async function closeAfter(use: (pool: CryptoPool) => Promise<unknown>): Promise<void> {
  const pool = await startPool(scope, token, sessions);
  await use(pool);
  await pool.close();
}

/** Each ends somewhere inside an operation. */
async function terminateWorkers(): Promise<void> {
  const { modulePath, initArgs, slotId } = token;
  for (let round = 0; round < 15; round++) {
    const worker = new Worker(new URL('./busy-worker.js', import.meta.url), {
      workerData: { token: { modulePath, initArgs, slotId }, sessions, objectId: key.object.objectId },
    });
    await once(worker, 'message');
    await worker.terminate();
  }
}

const stages: Readonly<Record<string, () => Promise<unknown>>> = {
  loaded: async () => {},
  idle: async () => encrypt(await startPool(scope, token, sessions), farDeadline()),
  closed: () => closeAfter((pool) => encrypt(pool, farDeadline())),
  'exit-while-running': exitWhileRunning,
  'throw-while-running': throwWhileRunning,
  'close-while-running': () => closeAfter(keepBusy),
  'exit-while-hung': exitWhileHung,
  'end-while-hung': () => closeAfter(hang),
  'workers-terminated': terminateWorkers,
};

const reach = stages[stage];
if (reach === undefined) throw new Error(`unknown stage ${stage}`);
await reach();
