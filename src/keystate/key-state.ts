import { invariant } from '../base/guards.js';
import { initCluster, upgradeCluster } from './cluster-commands.js';
import type { ClusterSettings, FormerMember, Member, PendingGrant } from './cluster-types.js';
import { checkCommand } from './command-checks.js';
import { checkActiveFormat } from './command-format.js';
import { done } from './command-results.js';
import { createCredential, retireCredential } from './credential-commands.js';
import { judgeRequest, rememberRequest } from './exactly-once.js';
import type { IvBudget } from './iv-budget.js';
import { reserveIvs, setKey } from './iv-commands.js';
import { createKey, disableKey, enableKey } from './key-commands.js';
import { createKeyStore, disableKeyStore, enableKeyStore, isolateKeyStore } from './key-store-commands.js';
import { applyMemberCommand, membershipOf } from './member-commands.js';
import { describeUse } from './object-use.js';
import { confirmPending, dropPending, recoverCluster } from './recovery-commands.js';
import { Tables } from './tables.js';
import { prepareToken } from './token-commands.js';
import type {
  Cluster,
  Command,
  CommandResult,
  Credential,
  Key,
  KeyStateQueries,
  KeyStore,
  PreparedToken,
} from './types.js';

/**
 * The replicated state machine: ordered commands in, the same state and results on every node. Reads no clock, no
 * randomness, no disk.
 */
export class KeyState implements KeyStateQueries {
  readonly #tables: Tables;

  /** @param tables taken over, from a snapshot. */
  constructor(tables: Tables = new Tables()) {
    this.#tables = tables;
  }

  /**
   * Applies the command at `index`, which follows the last one. Total: what can't be done changes nothing but
   * `appliedIndex` (and what is remembered of its request id), and the result says why. Keeps parts of `command`, which
   * must not change afterwards.
   */
  apply(index: number, command: Command): CommandResult {
    this.#follow(index);
    const tables = this.#tables;
    const before =
      tables.activeFormat >= 2 && isOnce(command) ? judgeRequest(tables.requests, command) : null;
    if (before !== null) return before;
    const refusal = checkCommand(command) ?? checkActiveFormat(command, tables.activeFormat);
    const result: CommandResult =
      refusal === null ? execute(tables, index, command) : { ok: false, error: refusal };
    // The active format as of now: commands that raise it are remembered too.
    if (tables.activeFormat >= 2 && isOnce(command)) rememberRequest(tables.requests, index, command, result);
    return result;
  }

  /** The entry at `index` is not for key state and changes nothing else. */
  skip(index: number): void {
    this.#follow(index);
  }

  outcomeOf(requestId: string): { readonly ok: boolean; readonly revision: number } | null {
    const record = this.#tables.requests.get(requestId);
    if (record === null) return null;
    return { ok: record.refusal === null, revision: record.revision ?? record.index };
  }

  #follow(index: number): void {
    invariant(index === this.#tables.appliedIndex + 1, `index ${index} after ${this.#tables.appliedIndex}`);
    this.#tables.appliedIndex = index;
  }

  /**
   * Of all that is replicated, but not of the applied index: whoever compares states compares that first. Kept up with
   * every change. 32 hexadecimal digits.
   */
  hash(): string {
    return this.#tables.hash();
  }

  /** Voters and learners in the order in which they joined; `null` while no command has said who they are. */
  membership(): { readonly voters: readonly string[]; readonly learners: readonly string[] } | null {
    return membershipOf(this.#tables);
  }

  get appliedIndex(): number {
    return this.#tables.appliedIndex;
  }

  cluster(): Cluster | null {
    return this.#tables.cluster;
  }

  keyStoreByPrefix(uriPathPrefix: string): KeyStore | null {
    return this.#tables.keyStoreByPrefix(uriPathPrefix);
  }

  keyStore(name: string): KeyStore | null {
    return this.#tables.keyStore(name);
  }

  credential(accessKeyId: string): Credential | null {
    return this.#tables.credential(accessKeyId);
  }

  key(keyStore: string, externalKeyId: string): Key | null {
    return this.#tables.key(keyStore, externalKeyId);
  }

  objectUser(objectId: string): string | null {
    const use = this.#tables.objectUse(objectId);
    return use === null ? null : describeUse(use);
  }

  keyOfObject(objectId: string): Key | null {
    return this.#tables.keyOfObject(objectId);
  }

  ivBudget(objectId: string): IvBudget | null {
    return this.#tables.ivBudget(objectId);
  }

  ivBudgets(): Iterable<IvBudget> {
    return this.#tables.ivBudgets();
  }

  ivSequence(holder: string): number {
    return this.#tables.ivSequence(holder);
  }

  preparedToken(serial: string): PreparedToken | null {
    return this.#tables.preparedToken(serial);
  }

  keyStores(): Iterable<KeyStore> {
    return this.#tables.keyStores();
  }

  credentials(keyStore: string): Iterable<Credential> {
    return this.#tables.credentials(keyStore);
  }

  keys(keyStore: string): Iterable<Key> {
    return this.#tables.keys(keyStore);
  }

  preparedTokens(): Iterable<PreparedToken> {
    return this.#tables.tokens();
  }

  counts(): { readonly keyStores: number; readonly credentials: number; readonly keys: number } {
    return {
      keyStores: this.#tables.keyStoreCount(),
      credentials: this.#tables.credentialCount(),
      keys: this.#tables.keyCount(),
    };
  }

  members(): Iterable<Member> {
    return this.#tables.members();
  }

  member(memberId: string): Member | null {
    return this.#tables.member(memberId);
  }

  memberByName(name: string): Member | null {
    return this.#tables.memberByName(name);
  }

  formerMembers(): Iterable<FormerMember> {
    return this.#tables.formerMembers();
  }

  settings(): ClusterSettings {
    return this.#tables.settings;
  }

  activeFormat(): number {
    return this.#tables.activeFormat;
  }

  pending(): Iterable<PendingGrant> {
    return this.#tables.pendingRows();
  }

  /** For snapshots: the tables themselves, to read in this turn only. */
  tables(): Tables {
    return this.#tables;
  }
}

/**
 * Reservations of random IVs are not kept: processes make so many that they would push out those of operators. They count
 * once by the sequence of their holder.
 */
const isOnce = ({ type }: Command): boolean => type !== 'iv.reserve';

function execute(tables: Tables, index: number, command: Command): CommandResult {
  switch (command.type) {
    case 'cluster.init':
      return initCluster(tables, index, command);
    case 'cluster.upgrade':
      return upgradeCluster(tables, index, command);
    case 'cluster.settings':
      tables.putSettings(command.settings);
      return done(index);
    case 'cluster.recover':
      return recoverCluster(tables, index, command);
    case 'member.register':
    case 'member.add':
    case 'member.join':
    case 'member.promote':
    case 'member.remove':
    case 'member.forget':
    case 'member.update':
      return applyMemberCommand(tables, index, command);
    case 'pending.confirm':
      return confirmPending(tables, index, command);
    case 'pending.drop':
      return dropPending(tables, index, command);
    case 'token.prepare':
      return prepareToken(tables, index, command);
    case 'keystore.create':
      return createKeyStore(tables, index, command);
    case 'keystore.enable':
      return enableKeyStore(tables, index, command);
    case 'keystore.disable':
      return disableKeyStore(tables, index, command);
    case 'keystore.set':
      return isolateKeyStore(tables, index, command);
    case 'credential.create':
      return createCredential(tables, index, command);
    case 'credential.retire':
      return retireCredential(tables, index, command);
    case 'key.create':
      return createKey(tables, index, command);
    case 'key.enable':
      return enableKey(tables, index, command);
    case 'key.disable':
      return disableKey(tables, index, command);
    case 'key.set':
      return setKey(tables, index, command);
    case 'iv.reserve':
      return reserveIvs(tables, index, command);
  }
}
