import type { KeyState } from '../../../src/keystate/key-state.js';
import type { Command, CommandEnvelope } from '../../../src/keystate/types.js';
import { type KeyLedger, keySubject, storeSubject } from '../checkers/key-ledger.js';
import { initialValue, type RegisterOperation } from '../checkers/register-history.js';
import type { AdminClients } from '../clients.js';
import { annotateType } from '../next-release.js';
import type { Random } from '../random.js';
import type { KeyResult } from '../sim-machine.js';
import type { ProposeOutcome, SimNode } from '../sim-node.js';
import type { World } from '../world.js';
import { createCredential, createKey, createStore, keyName, setRule, storeName } from './key-commands.js';
import { KeyMachine } from './key-machine.js';
import { drawRule, type KeyScenario } from './key-scenario.js';
import { firstAccessKeyId } from './prepared-keys.js';
import { accessKeyIdOf, requestIdOf, wallMs } from './simulated-ids.js';

/** A client gives up after so many attempts. */
const attemptsMax = 8;
/** The preparation took less. */
const preparationMs = 10_000;
/** Given out in a run, at most: beside those of the preparation. */
const firstMintedAccessKeyId = 1_000;

/** A key store, or a key of it: what is granted and denied with a revision. */
interface Target {
  /** Its number among the registers of the history. */
  readonly register: number;
  readonly keyStore: string;
  /** `null`: the key store itself. */
  readonly externalKeyId: string | null;
}

interface Request {
  readonly request: number;
  readonly target: Target;
  readonly command: Command;
  readonly invokedMs: number;
  /** Bytes of the first attempt: what is repeated is the same. */
  readonly bytes: Uint8Array;
  attempts: number;
  /** Some attempt may have got into a log. */
  maybe: boolean;
}

/**
 * Administrators of key state, each at a node of its choice: key stores, credentials and keys are created, disabled,
 * enabled by revision; outcomes that are unknown are asked for again with the same request id, or left so. A key store
 * or key is a register of the history, and its revision the value.
 */
export class KeyClients implements AdminClients {
  readonly history: RegisterOperation[] = [];
  acknowledged = 0;
  readsAnswered = 0;
  writing = true;
  readonly #world: World;
  readonly #ledger: KeyLedger;
  readonly #random: Random;
  readonly #reachable: () => readonly SimNode[];
  readonly #nextRequest: () => number;
  readonly #targets: readonly Target[];
  /** Access key ids that were, or may have been, given out, of each key store. */
  readonly #accessKeyIds = new Map<string, string[]>();
  readonly #open = new Set<Request>();
  /** Given up without an answer: they may happen yet. */
  readonly #unsettled: Request[] = [];
  #minted = firstMintedAccessKeyId;
  #reads = 0;
  #running = true;

  constructor(options: {
    readonly world: World;
    readonly scenario: KeyScenario;
    readonly ledger: KeyLedger;
    readonly random: Random;
    readonly reachable: () => readonly SimNode[];
    readonly nextRequest: () => number;
  }) {
    const { scenario } = options;
    this.#world = options.world;
    this.#ledger = options.ledger;
    this.#random = options.random;
    this.#reachable = options.reachable;
    this.#nextRequest = options.nextRequest;
    const each = scenario.keys + 1;
    this.#targets = Array.from({ length: scenario.keyStores * each }, (_, register) => {
      const place = register % each;
      return {
        register,
        keyStore: storeName(Math.floor(register / each)),
        externalKeyId: place === 0 ? null : keyName(place - 1),
      };
    });
    for (let store = 0; store < scenario.keyStores; store += 1) {
      this.#accessKeyIds.set(storeName(store), [firstAccessKeyId(store)]);
    }
  }

  /** Those that were ever meant to be: some may not be. */
  accessKeyIds(keyStore: string): readonly string[] {
    return this.#accessKeyIds.get(keyStore) ?? [];
  }

  /** What the cluster was made with was written before the beginning. */
  recordPreparation(): void {
    for (const { register, keyStore, externalKeyId } of this.#targets) {
      const subject = externalKeyId === null ? storeSubject(keyStore) : keySubject(keyStore, externalKeyId);
      for (const value of this.#ledger.revisions(subject)) {
        const invokedMs = value - preparationMs;
        this.history.push({ register, kind: 'write', value, invokedMs, respondedMs: invokedMs + 0.5 });
      }
    }
  }

  start(): void {
    this.#world.after(this.#random.exponential(this.#world.operationMeanMs), 'client', -1, () => {
      if (!this.#running) return;
      this.start();
      this.#operate();
    });
  }

  stop(): void {
    this.#running = false;
  }

  abandon(): void {
    for (const write of [...this.#open, ...this.#unsettled]) this.#maybeWritten(write);
    this.#open.clear();
    this.#unsettled.length = 0;
  }

  /** A founder that hardly ever comes to write may have founded nothing yet. */
  get mayAsk(): boolean {
    return this.#reachable().some(({ machine }) => stateOf(machine)?.cluster() !== null);
  }

  /** One that has a cluster: before there is one, nobody administers it. */
  #node(): SimNode | null {
    const nodes = this.#reachable().filter(({ machine }) => stateOf(machine)?.cluster() !== null);
    return nodes.length === 0 ? null : this.#random.pick(nodes);
  }

  #operate(): void {
    const node = this.#node();
    const state = node === null ? null : stateOf(node.machine);
    if (node === null || state === null) return;
    const drawn = this.#random.pick(this.#targets);
    const { keyStore } = drawn;
    // Without its key store there is nothing else to do.
    const target =
      state.keyStore(keyStore) === null
        ? (this.#targets.find((store) => store.keyStore === keyStore) ?? drawn)
        : drawn;
    if (!this.writing || this.#random.chance(this.#world.scenario.readShare)) this.#read(node, target);
    else this.#write(node, state, target);
  }

  #read(node: SimNode, target: Target): void {
    const { checkers } = this.#world;
    this.#reads += 1;
    const readId = `r${this.#reads}`;
    const invokedMs = this.#world.nowMs;
    const startIndex = checkers.acknowledgements.index;
    node.read(readId, (index) => {
      const state = stateOf(node.machine);
      if (index === null || state === null) return;
      this.#world.say(() => `${node.memberId} answers ${readId}: index ${index}`);
      this.readsAnswered += 1;
      checkers.acknowledgements.read(node.memberId, startIndex, index, state.appliedIndex);
      this.#record('read', target, revisionOf(state, target), invokedMs);
    });
  }

  #record(kind: RegisterOperation['kind'], { register }: Target, value: number, invokedMs: number): void {
    this.history.push({ register, kind, value, invokedMs, respondedMs: this.#world.nowMs });
  }

  #write(node: SimNode, state: KeyState, target: Target): void {
    const { build, nowMs, scenario } = this.#world;
    const request = this.#nextRequest();
    const envelope: CommandEnvelope = {
      requestId: requestIdOf(request, nowMs),
      atMs: wallMs(nowMs),
      by: 'uid=0',
    };
    const { paddingBytesMax } = scenario;
    const description = 'x'.repeat(
      paddingBytesMax > 0 ? this.#random.below(Math.min(paddingBytesMax, 256)) : 0,
    );
    const command = this.#command(envelope, node, state, target, description);
    const { encodeCommand, checkActiveFormat } = build.releases[node.release];
    // As the proposer of administration: what the cluster is not to know yet must not even get into the log.
    if (checkActiveFormat(command, state.activeFormat()) !== null) return;
    const write: Request = {
      request,
      target,
      command,
      invokedMs: nowMs,
      bytes: encodeCommand(command),
      attempts: 0,
      maybe: false,
    };
    this.#open.add(write);
    this.#attempt(node, write);
  }

  #command(
    envelope: CommandEnvelope,
    node: SimNode,
    state: KeyState,
    { keyStore: name, externalKeyId }: Target,
    description: string,
  ): Command {
    const keyStore = state.keyStore(name);
    if (keyStore === null) return createStore(envelope, name);
    if (this.#random.chance(0.15)) return this.#credentialCommand(envelope, name);
    if (externalKeyId === null) {
      if (this.#random.chance(0.3)) {
        return setRule(envelope, name, drawRule(this.#random), keyStore.revision);
      }
      return this.#random.chance(0.2)
        ? { type: 'keystore.disable', ...envelope, name }
        : { type: 'keystore.enable', ...envelope, name, revision: keyStore.revision };
    }
    const key = state.key(name, externalKeyId);
    if (key === null) return createKey(envelope, name, externalKeyId, description);
    if (node.release === 1 && this.#random.chance(0.2)) return annotation(envelope, name, externalKeyId);
    return this.#random.chance(0.35)
      ? { type: 'key.disable', ...envelope, keyStore: name, externalKeyId }
      : { type: 'key.enable', ...envelope, keyStore: name, externalKeyId, revision: key.revision };
  }

  #credentialCommand(envelope: CommandEnvelope, keyStore: string): Command {
    const known = this.#accessKeyIds.get(keyStore) ?? [];
    const [oldest] = known;
    if (oldest !== undefined && known.length > 3) {
      known.shift();
      return { type: 'credential.retire', ...envelope, keyStore, accessKeyId: oldest };
    }
    this.#minted += 1;
    const accessKeyId = accessKeyIdOf(this.#minted);
    known.push(accessKeyId);
    return createCredential(envelope, keyStore, accessKeyId);
  }

  #attempt(node: SimNode, write: Request): void {
    write.attempts += 1;
    const { request, attempts, command, bytes } = write;
    this.#world.say(
      () => `client asks ${node.memberId} for ${command.type} (request ${request}, attempt ${attempts})`,
    );
    node.propose(`${request}.${attempts}`, 'command', bytes, (outcome) =>
      this.#settled(node, write, outcome),
    );
  }

  #settled(node: SimNode, write: Request, outcome: ProposeOutcome | null): void {
    const { request, bytes } = write;
    this.#world.say(() => {
      const text =
        outcome === null ? 'lost' : outcome.ok ? `index ${outcome.value.index}` : outcome.error.kind;
      return `${node.memberId} answers request ${request}: ${text}`;
    });
    if (outcome?.ok) {
      const { index, result } = outcome.value;
      this.#world.checkers.acknowledgements.acknowledged(this.#world.nowMs, index, request, bytes);
      if (result === null || result.request !== request || !('result' in result)) {
        this.#world.verdict.broken('outcomes', `request ${request} got the result of another`);
      } else {
        this.acknowledged += 1;
        this.#done(write, result, index);
      }
      return;
    }
    const kind = outcome?.error.kind ?? 'closed';
    if (kind === 'unknown' || kind === 'closed') write.maybe = true;
    const again = write.attempts < attemptsMax && this.#random.chance(this.#world.scenario.retryChance);
    if (!again) {
      this.#givesUp(write);
      return;
    }
    this.#world.after(this.#random.exponential(100), 'retry', -1, () => {
      const next = this.#running && this.writing ? this.#node() : null;
      if (next === null) this.#givesUp(write);
      else this.#attempt(next, write);
    });
  }

  #givesUp(write: Request): void {
    this.#open.delete(write);
    if (write.maybe) this.#unsettled.push(write);
    else this.#world.checkers.exactlyOnce.notTaken(write.request);
  }

  /** Whether it has happened, and as which value, its client never learns: the ledger knows. */
  #maybeWritten({ request, target, command, invokedMs }: Request): void {
    const index = this.#world.checkers.exactlyOnce.indexOf(request);
    if (index === null || !this.#ledger.revised(index)) return;
    if (!changesTarget(command)) return;
    const { register } = target;
    this.history.push({
      register,
      kind: 'write',
      value: index,
      invokedMs,
      respondedMs: Number.POSITIVE_INFINITY,
    });
  }

  #done(write: Request, { result }: KeyResult, index: number): void {
    this.#open.delete(write);
    const { target, command, request, invokedMs } = write;
    if (!result.ok) {
      if (result.error.code === 'expired' || result.error.code === 'invalid') {
        this.#world.verdict.broken('outcomes', `request ${request}: ${result.error.message}`);
      }
      return;
    }
    const { revision } = result;
    this.#ledger.acknowledged(revision, this.#world.nowMs);
    if (!changesTarget(command)) return;
    const seen = 'revision' in command ? command.revision : null;
    const isUnchanged = seen === revision;
    if (result.repeated !== true && !isUnchanged && revision !== index) {
      this.#world.verdict.broken('outcomes', `request ${request} at ${index} has revision ${revision}`);
    }
    if (seen !== null && command.type !== 'keystore.set') this.#record('read', target, seen, invokedMs);
    if (!isUnchanged) this.#record('write', target, revision, invokedMs);
  }
}

/** The keys' own command of the next release, which this one has no type for. */
function annotation(envelope: CommandEnvelope, keyStore: string, externalKeyId: string): Command {
  const command: object = {
    type: annotateType,
    ...envelope,
    keyStore,
    externalKeyId,
    note: envelope.requestId,
  };
  return command as Command;
}

/** Whether it raises the revision of the key store or key that it names. */
function changesTarget({ type }: Command): boolean {
  switch (type) {
    case 'keystore.create':
    case 'keystore.enable':
    case 'keystore.disable':
    case 'keystore.set':
    case 'key.create':
    case 'key.enable':
    case 'key.disable':
      return true;
    default:
      return false;
  }
}

const stateOf = (machine: SimNode['machine']): KeyState | null =>
  machine instanceof KeyMachine ? machine.state : null;

function revisionOf(state: KeyState, { keyStore, externalKeyId }: Target): number {
  const object = externalKeyId === null ? state.keyStore(keyStore) : state.key(keyStore, externalKeyId);
  return object?.revision ?? initialValue;
}
