/**
 * The ordered log beneath key state, as narrow as it can be: nothing of an engine's own in it (terms, leaders and
 * members are in `cluster-engine.ts`). Raft (`raft-log.ts`) implements it; so does the log in memory of the tests.
 */

import type { Result } from '../base/result.js';
import type { Timing } from './timing.js';

/** The deterministic state machine above the log. `apply` is total: a command that cannot be done is a result. */
export interface StateMachine<R> {
  /** Applies the command at `index`; indexes arrive in order, without gaps over `apply` and `skip`. */
  apply(index: number, command: Uint8Array): R;
  /** The entry at `index` is the engine's own and changes nothing but the applied index. */
  skip(index: number): void;
  /** The whole state as of the last applied index, as a sequence of records of at most 1 MiB; lazy, of this turn. */
  snapshot(): Iterable<Uint8Array>;
  /** Forgets everything and takes over a snapshot as of `index`. Throws when the records are not one. */
  restore(index: number, records: Iterable<Uint8Array>): void;
  /** Begins to take in a snapshot beside the state. Where it is missing, `restore` is quick enough for any snapshot. */
  beginRestore?(): Restoration;
  /** Hash of the whole state as of the last applied index (replication.md 9), kept incrementally: O(1). Hexadecimal. */
  stateHash(): string;
  /** Who the members are as of the last applied index; `null` while no command has said so. */
  membership(): { readonly voters: readonly string[]; readonly learners: readonly string[] } | null;
  /** The times that the engine is to go by as of the last applied index; without them, those that it was started with. */
  timing?(): Timing | null;
}

/**
 * A snapshot on its way into a state machine, taken in record by record as it comes: what a state of 100,000 objects
 * takes is more than a replica may be silent for. The state in force knows nothing of it before `finish`, and it may be
 * dropped at any time.
 */
export interface Restoration {
  take(record: Uint8Array): void;
  /**
   * After the last record, once: the state machine forgets everything and takes over what was taken in, as of `index`,
   * in one step. Throws when the records are no such snapshot, and then changes nothing.
   */
  finish(index: number): void;
}

/** A restoration into any state machine. */
export function restorationOf<R>(stateMachine: StateMachine<R>): Restoration {
  if (stateMachine.beginRestore !== undefined) return stateMachine.beginRestore();
  const records: Uint8Array[] = [];
  return {
    take: (record) => void records.push(record),
    finish: (index) => stateMachine.restore(index, records),
  };
}

/** An entry that is durable, committed and applied. */
export interface AppliedEntry<R> {
  readonly index: number;
  /** Empty for an entry of the engine's own. */
  readonly command: Uint8Array;
  /** `null` for an entry of the engine's own. */
  readonly result: R | null;
}

export type ProposeFailure =
  /** More than `proposalsMax` are waiting. */
  | { readonly kind: 'overloaded' }
  /** Longer than the log takes. */
  | { readonly kind: 'too-large' }
  /** No leader took it within the time allowed: it is in no log and never will be. */
  | { readonly kind: 'not-taken'; readonly reason: string }
  /** It may or may not have been committed: safe to repeat with the same request id. */
  | { readonly kind: 'unknown'; readonly reason: string }
  /** The log is closed or its disk failed; whether the command will be found after a restart is unknown. */
  | { readonly kind: 'closed'; readonly reason: string };

export type ReadFailure =
  /** None has confirmed in time what this node knows. */
  | { readonly kind: 'no-quorum'; readonly reason: string }
  /** Too many wait already. */
  | { readonly kind: 'overloaded'; readonly reason: string }
  /** The log is closed, its disk failed, or this replica has halted. */
  | { readonly kind: 'closed'; readonly reason: string };

export interface LogSubscriber<R> {
  /** Every entry applied from now on, in order, synchronously with its application. */
  onEntry(entry: AppliedEntry<R>): void;
  /** The state machine took over a snapshot as of `index` from another member; entries go on after it. */
  onRestore?(index: number): void;
  /** As of `asOfMs` (boot clock) nothing later than `index` was acknowledged anywhere; `index` is applied here. */
  onFresh?(asOfMs: number, index: number): void;
}

export interface ProposeOptions {
  /** Changes who is a member: one at a time. */
  readonly membership?: boolean;
  readonly timeoutMs?: number;
  /** Only by this node, and only while it leads in this term: else it is not taken, at once. */
  readonly onlyTerm?: number;
}

export interface OrderedLog<R> {
  /** Index of the last applied entry. */
  readonly appliedIndex: number;
  /** Resolves once the entry is durable on a quorum and applied here. Never rejects. */
  propose(command: Uint8Array, options?: ProposeOptions): Promise<Result<AppliedEntry<R>, ProposeFailure>>;
  /** An index, applied here, that holds everything acknowledged anywhere before the call. Never rejects. */
  readIndex(timeoutMs?: number): Promise<Result<number, ReadFailure>>;
  subscribe(subscriber: LogSubscriber<R>): () => void;
  /** Waits for what is under way and releases the data directory. */
  close(): Promise<void>;
}
