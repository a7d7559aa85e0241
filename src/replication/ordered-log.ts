/**
 * The ordered log beneath key state, as narrow as it can be: nothing of an engine's own in it. The log of one
 * (`log-of-one.ts`) implements it today; Raft takes it over.
 */

/** The deterministic state machine above the log. `apply` is total: a command that cannot be done is a result. */
export interface StateMachine<R> {
  /** Applies the command at `index`; indexes arrive in order, without gaps. */
  apply(index: number, command: Uint8Array): R;
  /** The whole state as of the last applied index, as a sequence of records of at most 1 MiB. */
  snapshot(): Iterable<Uint8Array>;
  /** Forgets everything and takes over a snapshot as of `index`. Throws when the records are not one. */
  restore(index: number, records: Iterable<Uint8Array>): void;
}

/** An entry that is durable and applied. */
export interface AppliedEntry<R> {
  readonly index: number;
  readonly command: Uint8Array;
  readonly result: R;
}

export type ProposeFailure =
  /** More than `proposalsMax` are waiting. */
  | { readonly kind: 'overloaded' }
  /** Longer than the log takes. */
  | { readonly kind: 'too-large' }
  /** The log is closed or its disk failed; whether the command will be found after a restart is unknown. */
  | { readonly kind: 'closed'; readonly reason: string };

export interface OrderedLog<R> {
  /** Index of the last applied entry. */
  readonly appliedIndex: number;
  /** Resolves once the entry is durable (fdatasync) and applied. Never rejects. */
  propose(
    command: Uint8Array,
  ): Promise<
    | { readonly ok: true; readonly value: AppliedEntry<R> }
    | { readonly ok: false; readonly error: ProposeFailure }
  >;
  /** Calls `onEntry` for every entry applied from now on, in order, synchronously with its application. */
  subscribe(onEntry: (entry: AppliedEntry<R>) => void): () => void;
  /** Waits for what is under way and releases the data directory. */
  close(): Promise<void>;
}
