import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { DataDirectory } from './data-directory.js';
import { type AppendItem, DurableLog } from './durable-log.js';
import { itemOverheadBytesMax } from './log-items.js';
import type { Recovered } from './log-recovery.js';
import type { AppliedEntry, OrderedLog, ProposeFailure, StateMachine } from './ordered-log.js';

export const logOfOneLimits = {
  /** Longest command. */
  commandBytesMax: 64 * 1024,
  /** Proposals that wait at once. */
  proposalsMax: 1_024,
  /** Of the commands that go into one record. */
  batchBytesMax: 1024 * 1024,
  /** A snapshot is made after so many entries or bytes of log, whichever comes first. */
  snapshotEntries: 10_000,
  snapshotBytes: 16 * 1024 * 1024,
} as const;

export interface LogOfOneOptions<R> {
  /** Opened; the log closes it. */
  readonly directory: DataDirectory;
  /** Fresh: it gets the last snapshot and all entries since. */
  readonly stateMachine: StateMachine<R>;
  /**
   * Called at most once: the disk failed or an entry could not be applied. Nothing is acknowledged any more and the
   * process should end; what was acknowledged is on the disk.
   */
  readonly onFatal: (message: string) => void;
  /** For the operator: damage that could be gone around, a torn write that was cut off. */
  readonly onWarning: (message: string) => void;
  readonly segmentBytesMax?: number;
  readonly snapshotEntries?: number;
}

type ProposeResult<R> = Result<AppliedEntry<R>, ProposeFailure>;

interface Proposal<R> {
  readonly command: Uint8Array;
  readonly settle: (result: ProposeResult<R>) => void;
}

/** Raft's terms have a meaning once there is Raft: it takes over the log of one as a log of term 1. */
const term = 1;

/** Opens the ordered log of a cluster of one. After an error the directory is closed. */
export async function openLogOfOne<R>(
  options: LogOfOneOptions<R>,
): Promise<Result<OrderedLog<R>, { readonly message: string }>> {
  const { directory, stateMachine, onWarning, segmentBytesMax } = options;
  const opened = await DurableLog.open(directory, segmentBytesMax);
  if (!opened.ok) {
    await directory.close();
    return err({ message: opened.error });
  }
  const { log, recovered } = opened.value;
  for (const warning of recovered.warnings) onWarning(warning);
  const problem = restore(stateMachine, recovered);
  if (problem === null) return ok(new LogOfOne(options, log, recovered));
  await log.close();
  await directory.close();
  return err({ message: problem });
}

/** Brings the state machine to the end of the log; what is in the way, if anything. */
function restore<R>(stateMachine: StateMachine<R>, { snapshot, entries }: Recovered): string | null {
  try {
    if (snapshot !== null) stateMachine.restore(snapshot.index, snapshot.records);
  } catch (thrown) {
    return `the snapshot as of index ${snapshot?.index ?? 0} can't be taken: ${errorText(thrown)}`;
  }
  for (const { index, data } of entries) {
    const problem = applied(() => stateMachine.apply(index, data), index);
    if (!problem.ok) return problem.error;
  }
  return null;
}

function applied<R>(apply: () => R, index: number): Result<R, string> {
  try {
    return ok(apply());
  } catch (thrown) {
    return err(
      `entry ${index} of the log can't be applied, so this node stops there: ${errorText(thrown)}. Install the version of xksd that wrote it, or report this`,
    );
  }
}

class LogOfOne<R> implements OrderedLog<R> {
  readonly #options: LogOfOneOptions<R>;
  readonly #log: DurableLog;
  readonly #votedFor: string;
  readonly #subscribers = new Set<(entry: AppliedEntry<R>) => void>();
  readonly #queue: Proposal<R>[] = [];
  /** Taken from the queue and not yet settled. */
  #batch: Proposal<R>[] = [];
  /** To go into the log with the next batch. */
  #marker: number | null = null;
  #appliedIndex: number;
  #entriesSinceSnapshot: number;
  #bytesSinceSnapshot = 0;
  #writing: Promise<void> | null = null;
  #snapshotting: Promise<void> | null = null;
  #closing: Promise<void> | null = null;
  #failure: string | null = null;

  constructor(options: LogOfOneOptions<R>, log: DurableLog, recovered: Recovered) {
    this.#options = options;
    this.#log = log;
    this.#votedFor = options.directory.identity.memberId;
    this.#appliedIndex = recovered.lastIndex;
    this.#entriesSinceSnapshot = recovered.entries.length;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  propose(command: Uint8Array): Promise<ProposeResult<R>> {
    const refusal = this.#refusal(command);
    if (refusal !== null) return Promise.resolve(err(refusal));
    // A copy: the caller may reuse its buffer before ours is written.
    const copy = Uint8Array.from(command);
    return new Promise((settle) => {
      this.#queue.push({ command: copy, settle });
      this.#startWriting();
    });
  }

  #refusal(command: Uint8Array): ProposeFailure | null {
    if (this.#failure !== null) return { kind: 'closed', reason: this.#failure };
    if (this.#closing !== null) return { kind: 'closed', reason: 'the log is closing' };
    if (command.byteLength > logOfOneLimits.commandBytesMax) return { kind: 'too-large' };
    return this.#queue.length >= logOfOneLimits.proposalsMax ? { kind: 'overloaded' } : null;
  }

  subscribe(onEntry: (entry: AppliedEntry<R>) => void): () => void {
    this.#subscribers.add(onEntry);
    return () => {
      this.#subscribers.delete(onEntry);
    };
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish();
    return this.#closing;
  }

  async #finish(): Promise<void> {
    while (this.#writing !== null || this.#snapshotting !== null) {
      await this.#snapshotting;
      await this.#writing;
    }
    await this.#log.close();
    await this.#options.directory.close();
  }

  #startWriting(): void {
    this.#writing ??= this.#write();
  }

  async #write(): Promise<void> {
    // Whatever else is proposed in this turn joins the first batch.
    await null;
    try {
      while (this.#failure === null && (this.#queue.length > 0 || this.#marker !== null)) {
        await this.#writeBatch();
      }
    } catch (thrown) {
      this.#fail(errorText(thrown));
    } finally {
      // In the very turn in which the queue was seen empty: the next proposal must start writing anew.
      this.#writing = null;
    }
  }

  /** Group commit: all that was proposed while a batch was being written goes into the next, under one sync. */
  async #writeBatch(): Promise<void> {
    this.#batch = this.#takeBatch();
    const marker = this.#marker;
    const appended = await this.#log.append(this.#itemsOf(this.#batch, marker));
    if (!appended.ok) {
      this.#fail(appended.error);
      return;
    }
    this.#bytesSinceSnapshot += appended.value;
    this.#applyBatch();
    if (marker !== null && this.#failure === null) {
      this.#marker = null;
      const compacted = await this.#log.compact(marker);
      if (!compacted.ok) this.#fail(compacted.error);
    }
    this.#startSnapshotWhenDue();
  }

  #takeBatch(): Proposal<R>[] {
    let bytes = 0;
    let count = 0;
    for (const { command } of this.#queue) {
      bytes += command.byteLength + itemOverheadBytesMax;
      if (count > 0 && bytes > logOfOneLimits.batchBytesMax) break;
      count += 1;
    }
    return this.#queue.splice(0, count);
  }

  #itemsOf(batch: readonly Proposal<R>[], marker: number | null): AppendItem[] {
    const items: AppendItem[] = batch.map(({ command }, place) => ({
      kind: 'entry',
      index: this.#appliedIndex + 1 + place,
      term,
      data: command,
    }));
    if (items.length > 0) {
      // What one node has synced is committed: in the same record, so that both are durable or neither.
      const commitIndex = this.#appliedIndex + items.length;
      items.push({ kind: 'hardState', term, votedFor: this.#votedFor, commitIndex });
    }
    if (marker !== null) items.push({ kind: 'snapshotMarker', index: marker, term });
    return items;
  }

  #applyBatch(): void {
    for (const { command, settle } of [...this.#batch]) {
      const index = this.#appliedIndex + 1;
      const result = applied(() => this.#options.stateMachine.apply(index, command), index);
      if (!result.ok) {
        this.#fail(result.error);
        return;
      }
      this.#batch.shift();
      this.#appliedIndex = index;
      this.#entriesSinceSnapshot += 1;
      const entry = { index, command, result: result.value };
      settle(ok(entry));
      for (const onEntry of this.#subscribers) onEntry(entry);
    }
  }

  #startSnapshotWhenDue(): void {
    const { snapshotEntries = logOfOneLimits.snapshotEntries } = this.#options;
    const due =
      this.#entriesSinceSnapshot >= snapshotEntries ||
      this.#bytesSinceSnapshot >= logOfOneLimits.snapshotBytes;
    const busy = this.#snapshotting !== null || this.#marker !== null;
    if (!due || busy || this.#failure !== null || this.#closing !== null) return;
    this.#entriesSinceSnapshot = 0;
    this.#bytesSinceSnapshot = 0;
    this.#snapshotting = this.#saveSnapshot(this.#appliedIndex).finally(() => {
      this.#snapshotting = null;
    });
  }

  async #saveSnapshot(index: number): Promise<void> {
    try {
      // Captured in this turn, so as of `index`; written while later entries are applied.
      const saved = await this.#log.saveSnapshot({ index, term }, this.#options.stateMachine.snapshot());
      if (saved.ok) {
        this.#marker = index;
        this.#startWriting();
      } else {
        this.#fail(saved.error);
      }
    } catch (thrown) {
      this.#fail(errorText(thrown));
    }
  }

  /** Ends all: nothing that waits is acknowledged. */
  #fail(message: string): void {
    const first = this.#failure === null;
    this.#failure ??= message;
    const closed = err({ kind: 'closed', reason: this.#failure } as const);
    for (const { settle } of [...this.#batch.splice(0), ...this.#queue.splice(0)]) settle(closed);
    if (first) this.#options.onFatal(this.#failure);
  }
}
