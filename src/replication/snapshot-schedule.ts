import { invariant } from '../base/guards.js';
import type { LogPosition, MemberId, Membership } from '../raft/types.js';

/** How much earlier than the limits say the last member's snapshot would be due, were there very many. */
const earlierMax = 0.25;

/**
 * The part of the limits after which a member's snapshot is due. All members apply the same entries, and where all made
 * theirs at the same one, all would be slow at the same time: so each that joined later makes its somewhat earlier. 1
 * for the first.
 */
function shareOf(memberId: MemberId, { voters, learners }: Membership): number {
  const members = [...voters, ...learners];
  return 1 - (earlierMax * Math.max(0, members.indexOf(memberId))) / Math.max(1, members.length);
}

/** When the next snapshot of our own state is due. One at a time. */
export class SnapshotSchedule {
  readonly #entriesMax: number;
  readonly #bytesMax: number;
  #entries = 0;
  #bytes = 0;
  #saving: { readonly ticket: number; readonly at: LogPosition } | null = null;
  /** Of the newest durable snapshot. */
  #index: number;

  constructor(entriesMax: number, bytesMax: number, snapshotIndex: number) {
    this.#entriesMax = entriesMax;
    this.#bytesMax = bytesMax;
    this.#index = snapshotIndex;
  }

  get index(): number {
    return this.#index;
  }

  /** @param membership its members in the order in which they joined. */
  isDue(memberId: MemberId, membership: Membership): boolean {
    if (this.#saving !== null) return false;
    const spent = Math.max(this.#entries / this.#entriesMax, this.#bytes / this.#bytesMax);
    return spent >= 1 - earlierMax && spent >= shareOf(memberId, membership);
  }

  applied(bytes: number): void {
    this.#entries += 1;
    this.#bytes += bytes;
  }

  begin(ticket: number, at: LogPosition): void {
    this.#saving = { ticket, at };
    this.#entries = 0;
    this.#bytes = 0;
  }

  /** It is durable: its position, or `null` when a newer one came from another member meanwhile. */
  saved(ticket: number): LogPosition | null {
    const saving = this.#saving;
    invariant(saving !== null && saving.ticket === ticket, `no snapshot has the ticket ${ticket}`);
    this.#saving = null;
    if (saving.at.index <= this.#index) return null;
    this.#index = saving.at.index;
    return saving.at;
  }

  /** A snapshot from another member is durable here. */
  restored(index: number): void {
    this.#entries = 0;
    this.#bytes = 0;
    this.#index = index;
  }
}
