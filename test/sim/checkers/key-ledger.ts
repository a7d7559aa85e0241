import type { Command, CommandResult, OnIsolation } from '../../../src/keystate/types.js';
import { IvLedger } from './iv-ledger.js';
import type { Verdict } from './verdict.js';

/** What can be granted and denied. */
export type Subject = `store/${string}` | `key/${string}/${string}` | `credential/${string}`;

export const storeSubject = (name: string): Subject => `store/${name}`;
export const keySubject = (keyStore: string, externalKeyId: string): Subject =>
  `key/${keyStore}/${externalKeyId}`;
export const credentialSubject = (accessKeyId: string): Subject => `credential/${accessKeyId}`;

export interface LedgerChange {
  readonly index: number;
  readonly granted: boolean;
  /** True time; infinite while nobody was told. */
  acknowledgedMs: number;
}

interface Rule {
  readonly index: number;
  readonly onIsolation: OnIsolation;
}

/**
 * What became of key stores, keys and credentials, by a small model of its own: fed once with each committed command and
 * its result, in order, and with what was acknowledged when. The promises of grants and denials are checked here
 * (replication.md 12); what serving processes say is checked against it.
 */
export class KeyLedger {
  readonly #verdict: Verdict;
  readonly #changes = new Map<Subject, LedgerChange[]>();
  readonly #byIndex = new Map<number, LedgerChange>();
  readonly #rules = new Map<string, Rule[]>();
  /** Log indexes of the changes of each subject, oldest first. The last one is what commands that grant must have seen. */
  readonly #revisions = new Map<Subject, number[]>();
  readonly #revised = new Set<number>();
  #lastIndex = 0;
  readonly ivs: IvLedger;

  constructor(verdict: Verdict) {
    this.#verdict = verdict;
    this.ivs = new IvLedger(verdict);
  }

  /** Of the last command that it knows of. */
  get lastIndex(): number {
    return this.#lastIndex;
  }

  /** A command that grants and denies nothing. */
  skipped(index: number): void {
    this.#lastIndex = Math.max(this.#lastIndex, index);
  }

  /** By its first replica. Later ones, and repetitions of requests, change nothing. */
  applied(index: number, command: Command, result: CommandResult): void {
    if (index <= this.#lastIndex) return;
    this.#lastIndex = index;
    if (result.repeated === true) return;
    switch (command.type) {
      case 'keystore.create':
        this.#granted(index, storeSubject(command.name), null, result);
        if (result.ok) this.#rules.set(command.name, [{ index, onIsolation: { rule: 'serve' } }]);
        return;
      case 'keystore.enable':
        this.#granted(index, storeSubject(command.name), command.revision, result);
        return;
      case 'keystore.disable':
        this.#denied(index, storeSubject(command.name), result);
        return;
      case 'keystore.set': {
        const { name, onIsolation } = command;
        if (!result.ok) return;
        this.#revise(index, storeSubject(name));
        this.#rules.get(name)?.push({ index, onIsolation });
        return;
      }
      case 'credential.create':
        this.#granted(index, credentialSubject(command.accessKeyId), null, result);
        return;
      case 'credential.retire':
        // A second time it is done already.
        if (result.ok && result.revision === index)
          this.#change(index, credentialSubject(command.accessKeyId), false);
        return;
      case 'key.create':
        this.#granted(index, keySubject(command.keyStore, command.externalKeyId), null, result);
        return;
      case 'key.enable':
        this.#granted(index, keySubject(command.keyStore, command.externalKeyId), command.revision, result);
        return;
      case 'key.disable':
        this.#denied(index, keySubject(command.keyStore, command.externalKeyId), result);
        return;
      default:
        return;
    }
  }

  /** @param seen the revision that the command names; `null` for a creation, which there must be only one of. */
  #granted(index: number, subject: Subject, seen: number | null, result: CommandResult): void {
    if (!result.ok) return;
    const revision = this.revisions(subject).at(-1) ?? null;
    if (revision !== seen) {
      this.#verdict.broken(
        'late grants undo nothing',
        `${subject} at revision ${revision ?? 'none'} is granted at ${index} by a command that saw ${seen ?? 'none'}`,
      );
    }
    // What was granted already has not changed.
    if (result.revision === index) this.#change(index, subject, true);
  }

  #denied(index: number, subject: Subject, result: CommandResult): void {
    if (!this.#revisions.has(subject)) return;
    if (!result.ok || result.revision !== index) {
      this.#verdict.broken('denials take effect', `the denial of ${subject} at ${index} changed nothing`);
    }
    this.#change(index, subject, false);
  }

  #change(index: number, subject: Subject, granted: boolean): void {
    const change: LedgerChange = { index, granted, acknowledgedMs: Number.POSITIVE_INFINITY };
    const changes = this.#changes.get(subject);
    if (changes === undefined) this.#changes.set(subject, [change]);
    else changes.push(change);
    this.#byIndex.set(index, change);
    this.#revise(index, subject);
  }

  #revise(index: number, subject: Subject): void {
    const revisions = this.#revisions.get(subject);
    if (revisions === undefined) this.#revisions.set(subject, [index]);
    else revisions.push(index);
    this.#revised.add(index);
  }

  /** Somebody was told that the change of `revision` (its log index) has happened. */
  acknowledged(revision: number, nowMs: number): void {
    const change = this.#byIndex.get(revision);
    if (change !== undefined) change.acknowledgedMs = Math.min(change.acknowledgedMs, nowMs);
  }

  /** Log indexes at which it was changed, oldest first. */
  revisions(subject: Subject): readonly number[] {
    return this.#revisions.get(subject) ?? [];
  }

  /** Whether the command at `index` changed something. */
  revised(index: number): boolean {
    return this.#revised.has(index);
  }

  /** Oldest first. */
  changes(subject: Subject): readonly LedgerChange[] {
    return this.#changes.get(subject) ?? [];
  }

  /** In a state as of `index`; `null`: there is no such thing. */
  grantedAt(subject: Subject, index: number): boolean | null {
    return this.changes(subject).findLast((change) => change.index <= index)?.granted ?? null;
  }

  /** When somebody was first told of a denial that a state as of `index` lacks; `null`: of none. */
  deniedSince(subject: Subject, index: number): number | null {
    let sinceMs = Number.POSITIVE_INFINITY;
    const changes = this.changes(subject);
    for (let place = changes.length - 1; place >= 0; place -= 1) {
      const change = changes[place];
      if (change === undefined || change.index <= index) break;
      if (!change.granted) sinceMs = Math.min(sinceMs, change.acknowledgedMs);
    }
    return sinceMs === Number.POSITIVE_INFINITY ? null : sinceMs;
  }

  /** The rule for isolation of a key store, in a state as of `index`. */
  ruleAt(keyStore: string, index: number): OnIsolation {
    const rule = this.#rules.get(keyStore)?.findLast((change) => change.index <= index);
    return rule?.onIsolation ?? { rule: 'serve' };
  }
}
