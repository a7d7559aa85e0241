import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Command, InvalidArgumentError, Option } from 'commander';
import pkcs11js from 'pkcs11js';
import { growth, type Point } from '../../bench/leak/growth.js';
import { invariant } from '../../src/base/guards.js';
import type { CryptoPool } from '../../src/hsm/crypto-pool.js';
import type { DecryptOperation } from '../../src/hsm/types.js';
import {
  encryption,
  farDeadline,
  importKnownKey,
  type KnownKey,
  startPool,
} from '../support/crypto-pool-fixture.js';
import { logIn, type TokenAccess } from '../support/logged-in-token.js';
import { makeNssToken } from '../support/nss.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

/**
 * `npm run test:native-endurance`: a million operations through the real addon over SoftHSM2 and over NSS softoken, each
 * in a process of its own. Half are encrypts with their verifying decrypt, half decrypt what those made; some are refused
 * for a wrong tag. Memory, descriptors, threads and the token's sessions must stay as they are. 0 or 1 says whether.
 */

/** Under way at once. */
const atATime = 32;
/** One operation in so many carries a wrong tag. */
const wrongTagEvery = 1_000;
const looks = 60;
/** By the slope, once it has settled. What the heaps of V8 and of the C library do by themselves is less. */
const growthKiBMax = 3_072;

const tokens = { softhsm: makeSoftHsmToken, nss: makeNssToken } as const;
type Vendor = keyof typeof tokens;
const vendors = Object.keys(tokens) as readonly Vendor[];

interface Look {
  readonly operations: number;
  readonly rssKiB: number;
  readonly descriptors: number;
  readonly threads: number;
  /** Opened for operations and not closed. */
  readonly sessions: number;
  /** Of the token, as the module counts them; `null` where it does not. */
  readonly tokenSessions: number | null;
}

const teardowns: (() => unknown)[] = [];
const scope = {
  teardown: (run: () => unknown) => void teardowns.push(run),
  fail: (why: string) => {
    throw new Error(why);
  },
};

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** CK_UNAVAILABLE_INFORMATION, as pkcs11js gives it. */
const unavailable = 0xffff_ffff;

function tokenSessionsOf(access: TokenAccess): () => number | null {
  const module = new pkcs11js.PKCS11();
  module.load(access.modulePath);
  scope.teardown(() => module.close());
  const slot = module
    .C_GetSlotList(true)
    .find((one) => module.C_GetTokenInfo(one).label.trim() === access.label);
  invariant(slot !== undefined, `no token ${access.label}`);
  return () => {
    const { sessionCount } = module.C_GetTokenInfo(slot);
    return sessionCount === unavailable ? null : sessionCount;
  };
}

function openSessions(pool: CryptoPool): number {
  const { functions } = pool.calls();
  const count = (name: string): number =>
    functions
      .find(({ functionName }) => functionName === name)
      ?.byDuration.reduce((total, calls) => total + calls, 0) ?? 0;
  return count('C_OpenSession') - count('C_CloseSession');
}

function look(operations: number, pool: CryptoPool, tokenSessions: () => number | null): Look {
  collectGarbage();
  const status = readFileSync('/proc/self/status', 'utf8');
  const number = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
  return {
    operations,
    rssKiB: number('VmRSS'),
    descriptors: readdirSync('/proc/self/fd').length,
    threads: number('Threads'),
    sessions: openSessions(pool),
    tokenSessions: tokenSessions(),
  };
}

/** An encrypt and a decrypt, or one that must be refused instead of the decrypt. */
async function roundTrip(pool: CryptoPool, key: KnownKey, wrongTag: boolean): Promise<void> {
  const operation = encryption(key.object);
  const sealed = await pool.encrypt(operation, farDeadline());
  if (!sealed.ok) throw new Error(`an encrypt failed: ${JSON.stringify(sealed.error)}`);
  const decrypt: DecryptOperation = { key: key.object, gcmAad: operation.gcmAad, ...sealed.value };
  const opened = await pool.decrypt(wrongTag ? { ...decrypt, tag: randomBytes(16) } : decrypt, farDeadline());
  const isRight = opened.ok
    ? !wrongTag && Buffer.compare(opened.value, operation.plaintext) === 0
    : wrongTag && opened.error.kind === 'bad-ciphertext';
  if (!isRight)
    throw new Error(`a decrypt: ${opened.ok ? 'another plaintext' : JSON.stringify(opened.error)}`);
}

async function endure(vendor: Vendor, operations: number): Promise<boolean> {
  const access = await tokens[vendor](scope);
  const token = logIn(scope, access);
  const key = importKnownKey(token);
  const pool = await startPool(scope, token, 4);
  const tokenSessions = tokenSessionsOf(access);
  const looked: Look[] = [];
  const startMs = performance.now();
  let done = 0;
  for (let slice = 1; slice <= looks; slice++) {
    const until = Math.floor((operations * slice) / looks);
    while (done < until) {
      const trips = Array.from({ length: atATime / 2 }, (_, index) =>
        roundTrip(pool, key, (done / 2 + index) % wrongTagEvery === 0),
      );
      await Promise.all(trips);
      done += atATime;
    }
    looked.push(look(done, pool, tokenSessions));
  }
  const seconds = (performance.now() - startMs) / 1_000;
  const faults = judge(looked);
  const [first, last] = [looked[0], looked.at(-1)];
  for (const one of [first, looked[looks >> 1], last]) console.log(`${vendor} ${JSON.stringify(one)}`);
  const calls = pool.calls();
  console.log(
    `${vendor} ${done} operations in ${seconds.toFixed(0)} s, ${calls.roundTrips} PKCS#11 calls, ${calls.repeats} repeats; ` +
      `RSS grew by ${growth(points(looked)).toFixed(0)} KiB once settled`,
  );
  for (const fault of faults) console.log(`${vendor} FAULT ${fault}`);
  for (const run of teardowns.reverse()) await run();
  return faults.length === 0;
}

const points = (looked: readonly Look[]): readonly Point[] =>
  looked.map(({ operations, rssKiB }) => ({ atSeconds: operations, value: rssKiB }));

function judge(looked: readonly Look[]): readonly string[] {
  const settled = looked.slice(looks / 3);
  const faults = (['descriptors', 'threads', 'sessions', 'tokenSessions'] as const).flatMap((what) => {
    const numbers = settled.map((one) => one[what] ?? 0);
    return Math.max(...numbers) > Math.min(...numbers) ? [`${what}: ${numbers.join(' ')}`] : [];
  });
  const grownKiB = growth(points(looked));
  return grownKiB > growthKiBMax ? [...faults, `memory grew by ${grownKiB.toFixed(0)} KiB`] : faults;
}

const positive = (text: string): number => {
  const value = Number(text);
  if (!(Number.isInteger(value) && value > 0)) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
};

const options = new Command('test:native-endurance')
  .option('--operations <number>', 'on each token', positive, 1_000_000)
  .addOption(new Option('--only <token>', 'this token, in this process').choices(vendors))
  .parse()
  .opts<{ operations: number; only?: Vendor }>();

if (options.only === undefined) {
  let isWell = true;
  for (const vendor of vendors) {
    try {
      const args = [...process.execArgv, fileURLToPath(import.meta.url), '--only', vendor];
      execFileSync(process.execPath, [...args, '--operations', String(options.operations)], {
        stdio: 'inherit',
      });
    } catch {
      isWell = false;
    }
  }
  console.log(isWell ? 'PASS' : 'FAIL');
  process.exit(isWell ? 0 : 1);
}
process.exit((await endure(options.only, options.operations)) ? 0 : 1);
