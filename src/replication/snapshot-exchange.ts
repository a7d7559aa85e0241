import { invariant } from '../base/guards.js';
import type { RaftNode } from '../raft/raft-node.js';
import type { LogPosition, MemberId, Membership } from '../raft/types.js';
import type { LoopLimits } from './loop-contract.js';
import type { Restoration } from './ordered-log.js';
import type { PeerMessage } from './peer-message.js';
import { SnapshotSource } from './snapshot-bytes.js';
import { type ReceivedSnapshot, SnapshotReceiver } from './snapshot-receiver.js';
import { SnapshotSchedule } from './snapshot-schedule.js';
import { type SnapshotMessage, SnapshotSender } from './snapshot-sender.js';
import type { Timing } from './timing.js';

/** Entries kept in memory below the newest snapshot for members that are a little behind, and their bytes. */
const keptTail = { entriesMax: 1_000, bytesMax: 16 * 1024 * 1024 } as const;

/** The applied state at a moment; its records are taken later. */
export interface CapturedState {
  readonly position: LogPosition;
  readonly membership: Membership;
  readonly records: Iterable<Uint8Array>;
}

export interface SnapshotExchangeOptions {
  readonly memberId: MemberId;
  readonly limits: LoopLimits;
  /** Changes over time. */
  readonly timing: Timing;
  /** Of the newest durable snapshot. */
  readonly snapshotIndex: number;
  readonly raft: () => RaftNode;
  readonly membership: () => Membership;
  readonly capture: () => CapturedState;
  /** Of a snapshot that is received, into the state machine. */
  readonly beginRestore: () => Restoration;
  readonly send: (to: MemberId, message: PeerMessage) => void;
  /** Makes a snapshot of our own durable; then `saved(ticket)`. */
  readonly save: (ticket: number, at: LogPosition, records: Iterable<Uint8Array>) => void;
  readonly warn: (message: string) => void;
}

/** All about snapshots: made of our own state now and then, sent to members far behind, received when we are. */
export class SnapshotExchange {
  readonly #options: SnapshotExchangeOptions;
  readonly #schedule: SnapshotSchedule;
  readonly #sender: SnapshotSender;
  readonly #receiver: SnapshotReceiver;
  /** Whole, and not yet in a `ready`. */
  #received: ReceivedSnapshot | null = null;
  /** Being made durable. */
  #installing: ReceivedSnapshot | null = null;

  constructor(options: SnapshotExchangeOptions) {
    const { limits, timing, raft, capture, beginRestore, send } = options;
    this.#options = options;
    this.#receiver = new SnapshotReceiver(beginRestore);
    this.#schedule = new SnapshotSchedule(
      limits.snapshotEntries,
      limits.snapshotBytes,
      options.snapshotIndex,
    );
    this.#sender = new SnapshotSender({
      get resendTicks() {
        return timing.electionTicks;
      },
      capture: () => {
        const { position, membership, records } = capture();
        return new SnapshotSource(position, membership, records);
      },
      send,
      report: (to, delivered) => raft().reportSnapshot(to, delivered),
    });
  }

  /** Of the newest durable snapshot. */
  get index(): number {
    return this.#schedule.index;
  }

  /** One from another member is being made durable. */
  get installing(): boolean {
    return this.#installing !== null;
  }

  /** The core's message, which is nothing without the bytes. */
  open(message: SnapshotMessage): void {
    this.#sender.open(message, this.#options.raft().status().firstIndex - 1);
  }

  answered(from: MemberId, response: Extract<PeerMessage, { kind: 'snapshotChunkResponse' }>): void {
    this.#sender.answered(from, response);
  }

  tick({ voters, learners }: Membership): void {
    if (!this.#sender.active) return;
    const { role, term } = this.#options.raft().status();
    this.#sender.tick(role === 'leader' ? { term, members: new Set([...voters, ...learners]) } : null);
  }

  receive(from: MemberId, chunk: Extract<PeerMessage, { kind: 'snapshotChunk' }>): void {
    const { memberId, raft, send, warn } = this.#options;
    const { message } = chunk;
    const { position } = message;
    if (message.from !== from || message.to !== memberId) return;
    const { term, commitIndex } = raft().status();
    const { nextOffset, received, problem } = this.#receiver.receive(from, chunk, term, commitIndex);
    if (problem !== null) {
      warn(`a snapshot as of index ${position.index} from member ${from} can't be taken: ${problem}`);
    }
    if (received !== null) {
      this.#received = received;
      raft().step(received.message);
    } else if (position.index <= commitIndex) {
      // Nothing new; the core tells the leader how far this member is, which it may not know.
      raft().step(message);
    }
    send(from, { kind: 'snapshotChunkResponse', position, nextOffset });
  }

  /** The core took the snapshot: its records. Another one may come in while it is being made durable. */
  install(position: LogPosition): readonly Uint8Array[] {
    const received = this.#received;
    invariant(
      received !== null &&
        received.message.position.index === position.index &&
        received.message.position.term === position.term,
      `no snapshot as of index ${position.index} was received`,
    );
    this.#received = null;
    this.#installing = received;
    return received.records;
  }

  /** It is durable: what is left is to finish its restoration. */
  installed(): Restoration {
    const installing = this.#installing;
    invariant(installing !== null, 'no snapshot is being installed');
    this.#installing = null;
    this.#schedule.restored(installing.message.position.index);
    return installing.restoration;
  }

  /** The core has nothing to be done: what it has not taken by now came too late. */
  discardUnwanted(): void {
    if (this.#received === null) return;
    this.#received = null;
    this.#receiver.refused();
  }

  /** What is committed needs no snapshot any more. */
  committed(commitIndex: number): void {
    this.#receiver.committed(commitIndex);
  }

  applied(bytes: number): void {
    this.#schedule.applied(bytes);
  }

  saveWhenDue(nextTicket: () => number): void {
    const { memberId, membership, capture } = this.#options;
    if (!this.#schedule.isDue(memberId, membership())) return;
    const ticket = nextTicket();
    const { position, records } = capture();
    this.#schedule.begin(ticket, position);
    this.#options.save(ticket, position, records);
  }

  saved(ticket: number): void {
    const previousIndex = this.#schedule.index;
    const at = this.#schedule.saved(ticket);
    if (at !== null) this.#compact(at, previousIndex);
  }

  /** Each snapshot on its way in is as large as the state, and a replica that has halted may be left to run for long. */
  close(): void {
    this.#sender.close();
    this.#receiver.close();
    this.#received = null;
    this.#installing = null;
  }

  /** `at` is durable: forgets the log below, but for a tail and for what a member being sent a snapshot will need next. */
  #compact(at: LogPosition, previousIndex: number): void {
    const raft = this.#options.raft();
    // In proportion, so that few entries between snapshots mean few in memory.
    const tailMax = Math.min(keptTail.entriesMax, Math.floor(this.#options.limits.snapshotEntries / 10));
    let index = at.index;
    let bytes = 0;
    while (at.index - index < tailMax) {
      const entry = raft.entry(index);
      bytes += entry?.data.byteLength ?? 0;
      if (entry === null || bytes > keptTail.bytesMax) break;
      index -= 1;
    }
    // Not for ever: one that takes longer than from snapshot to snapshot gets a newer one.
    const wanted = this.#sender.lowestIndex;
    if (wanted !== null && wanted >= previousIndex) index = Math.min(index, wanted);
    if (index >= raft.status().firstIndex) raft.compact(index);
  }
}
