import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '../src/base/clock.js';
import { loadNativeBinding } from '../src/base/native.js';
import { systemTimers } from '../src/base/timers.js';
import { encodeCommand } from '../src/keystate/command-codec.js';
import { commandFormatMax } from '../src/keystate/command-format.js';
import { mintRequestId, requestIdRandomBytes } from '../src/keystate/request-id.js';
import { KeyStateMachine } from '../src/keystate/state-machine.js';
import type { Command, CommandEnvelope, SealedBytes } from '../src/keystate/types.js';
import { softwareVersion } from '../src/ops/version.js';
import { openDataDirectory } from '../src/replication/data-directory.js';
import { systemFiles } from '../src/replication/file-operations.js';
import { openRaftLog } from '../src/replication/raft-log.js';
import { raftLogLimits } from '../src/replication/raft-log-limits.js';

/** Proposals on their way at once; the log takes a few more. */
const proposalsMax = 1_000;
const credentialsPerKeyStore = 2;

type Body<C> = C extends Command ? Omit<C, keyof CommandEnvelope> : never;

export interface Fill {
  readonly keyStores: number;
  readonly keys: number;
  /** Entries in the log after the last snapshot when all is done: changes that change nothing make up what lacks. */
  readonly tailEntries: number;
}

const sealed = (ciphertextBytes: number): SealedBytes => ({
  nonce: randomBytes(12),
  ciphertext: randomBytes(ciphertextBytes),
  tag: randomBytes(16),
});

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const accessKeyId = (): string =>
  Array.from(randomBytes(24), (byte) => base32.charAt(byte % base32.length)).join('');

const storeName = (number: number): string => `bench-${number}`;

/**
 * As many key stores, credentials and keys as customers may have. Of the keys' objects no token knows anything: what
 * is measured serves by others.
 */
function* bodies({ keyStores, keys }: Fill): Generator<Body<Command>> {
  for (let number = 0; number < keyStores; number += 1) {
    const keyStore = storeName(number);
    const location = { uriPathPrefix: `bench/${number}`, regions: ['eu-central-1'], adopted: false };
    yield { type: 'keystore.create', name: keyStore, ...location };
    for (let credential = 0; credential < credentialsPerKeyStore; credential += 1) {
      yield {
        type: 'credential.create',
        keyStore,
        accessKeyId: accessKeyId(),
        sealedSecret: sealed(43),
      };
    }
  }
  for (let number = 0; number < keys; number += 1) {
    yield {
      type: 'key.create',
      keyStore: storeName(number % keyStores),
      externalKeyId: randomBytes(16).toString('hex'),
      objectId: randomBytes(16).toString('hex'),
      witness: sealed(32),
      checkValue: randomBytes(3).toString('hex'),
      usage: ['ENCRYPT', 'DECRYPT'],
      description: `made by the bench, number ${number}`,
    };
  }
}

/**
 * Puts key state into the log of a cluster of one whose node is not running: each object by its command, through the
 * log itself. @returns changes a second.
 */
export async function fillLog(dataDir: string, fill: Fill): Promise<number> {
  const native = loadNativeBinding();
  const directory = await openDataDirectory({
    dir: dataDir,
    nodeName: null,
    files: systemFiles,
    tryLockFile: (fd) => native.tryLockFile(fd),
    pid: process.pid,
  });
  if (!directory.ok) throw new Error(directory.error.message);
  const failed = (reason: string): void => {
    throw new Error(reason);
  };
  const opened = await openRaftLog({
    directory: directory.value,
    stateMachine: new KeyStateMachine(),
    timers: systemTimers,
    bootTimeMs: () => native.bootTimeMs(),
    random: Math.random,
    report: () => ({
      nodeName: directory.value.identity.nodeName,
      version: softwareVersion(),
      formatMax: commandFormatMax,
      configHash: '',
      wallMs: systemClock.wallMs(),
      servingAppliedIndex: 0,
      readyServingProcesses: 0,
    }),
    onFatal: failed,
    onHalted: failed,
    onWarning: () => {},
  });
  if (!opened.ok) throw new Error(opened.error.message);
  const { log, engine } = opened.value;
  let proposed = 0;
  const propose = async (body: Body<Command>): Promise<void> => {
    const atMs = systemClock.wallMs();
    const requestId = mintRequestId(atMs, randomBytes(requestIdRandomBytes));
    const outcome = await log.propose(encodeCommand({ ...body, requestId, atMs, by: 'bench' } as Command));
    if (!outcome.ok) throw new Error(`a change was not taken: ${outcome.error.kind}`);
    if (outcome.value.result?.ok === false) throw new Error(outcome.value.result.error.message);
    proposed += 1;
  };
  const startMs = systemClock.monotonicMs();
  let batch: Promise<void>[] = [];
  for (const body of bodies(fill)) {
    batch.push(propose(body));
    if (batch.length < proposalsMax) continue;
    await Promise.all(batch);
    batch = [];
  }
  await Promise.all(batch);
  const perSecond = (proposed / (systemClock.monotonicMs() - startMs)) * 1_000;
  const tail = (): number => log.appliedIndex - engine.status().snapshotIndex;
  // One is being written still.
  while (tail() >= raftLogLimits.snapshotEntries) await delay(20);
  for (let lacking = fill.tailEntries - tail(); lacking > 0; lacking = fill.tailEntries - tail()) {
    const disable: Body<Command> = { type: 'keystore.disable', name: storeName(0) };
    await Promise.all(Array.from({ length: Math.min(lacking, proposalsMax) }, () => propose(disable)));
  }
  await log.close();
  return perSecond;
}
