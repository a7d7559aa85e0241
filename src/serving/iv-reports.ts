import type { Timers } from '../base/timers.js';
import type { IvReservation } from '../keystate/iv-budget.js';
import type { Command, CommandResult, KeyStateQueries } from '../keystate/types.js';
import { encodeJsonFrame } from '../ops/frames.js';
import { FrameType, type IvWants } from '../ops/state-link.js';
import type { IvAccounts } from './iv-accounts.js';

/** What came up in this time is asked for together. */
const gatheredMs = 50;
/** Asked again, with what was used meanwhile, for as long as it is not granted. */
const repeatedMs = 1_000;

type State = Pick<KeyStateQueries, 'appliedIndex' | 'activeFormat' | 'ivBudget' | 'ivSequence'>;

/** On its way, until it is granted. */
interface Asked {
  readonly sequence: number;
  readonly reservations: readonly IvReservation[];
}

export interface IvReportsOptions {
  readonly accounts: IvAccounts;
  readonly processId: string;
  readonly state: () => State | null;
  readonly send: (frame: Buffer) => void;
  readonly timers: Timers;
}

/**
 * Asks the replica of this node for blocks of random IVs, behind the requests. The replica puts them into the log; the
 * grant comes back as that very entry of key state, or in a snapshot that has its number. One reservation at a time, with
 * the same uses under the same number until it is granted: however often it gets into the log, it counts once.
 */
export class IvReports {
  readonly #options: IvReportsOptions;
  #asked: Asked | null = null;
  #lastSequence = 0;
  #cancel: (() => void) | null = null;
  #isSoon = false;
  #closed = false;

  constructor(options: IvReportsOptions) {
    this.#options = options;
    options.accounts.whenWanted(() => this.#arm(gatheredMs));
  }

  /** Key state is another one, by `command`, which had this result, or by a snapshot. */
  onState(state: State, command: Command | null, result: CommandResult | null): void {
    const { accounts, processId } = this.#options;
    if (command === null) {
      // Entries that are in the snapshot do not come.
      const asked = this.#asked;
      if (asked === null || state.ivSequence(processId) < asked.sequence) return;
      // That its block is in it, too, nobody says: the replica leaves it out where it takes the process to be gone.
      this.#settled(
        asked.reservations.map((one) => ({ ...one, ahead: 0 })),
        state,
      );
      return;
    }
    if (command.type !== 'iv.reserve' || command.holder !== processId) return;
    // Refused: nothing is reserved, and the same is asked for again. Repeated: it is known already.
    if (result?.ok !== true || result.repeated === true) return;
    const { sequence, reservations } = command;
    if (sequence === undefined || sequence >= (this.#asked?.sequence ?? 0))
      this.#settled(reservations, state);
    else accounts.granted(reservations, state);
  }

  close(): void {
    this.#closed = true;
    this.#cancel?.();
  }

  #settled(reservations: readonly IvReservation[], state: State): void {
    const { accounts } = this.#options;
    this.#asked = null;
    accounts.granted(reservations, state);
    if (accounts.wantsAny) this.#arm(gatheredMs);
    // What it was last told is over, however late this grant came.
    else this.#send(state, null);
  }

  #arm(ms: number): void {
    const isSoon = ms === gatheredMs;
    if (this.#closed || (this.#cancel !== null && (this.#isSoon || !isSoon))) return;
    this.#cancel?.();
    this.#isSoon = isSoon;
    this.#cancel = this.#options.timers.after(ms, () => {
      this.#cancel = null;
      this.#report();
    });
  }

  #report(): void {
    const { accounts, state } = this.#options;
    if (!accounts.wantsAny && this.#asked === null) return;
    const known = state();
    // Before format 3 no member is to hear of it, and the replica of this node might not know the frame.
    if (known !== null && known.activeFormat() >= 3) {
      this.#asked ??= this.#next(known);
      // None: what was wanted before is over, and must not be counted with this process when it ends.
      this.#send(known, this.#asked);
      if (this.#asked === null && !accounts.wantsAny) return;
    }
    this.#arm(repeatedMs);
  }

  #next(state: State): Asked | null {
    const reservations = this.#options.accounts.wants(state);
    if (reservations.length === 0) return null;
    this.#lastSequence += 1;
    return { sequence: this.#lastSequence, reservations };
  }

  #send({ appliedIndex }: State, asked: Asked | null): void {
    const { accounts, send } = this.#options;
    const wants: IvWants =
      asked === null
        ? { appliedIndex, reservations: [] }
        : { appliedIndex, ...asked, later: accounts.usedBeside(asked.reservations) };
    send(encodeJsonFrame(FrameType.ivWants, wants));
  }
}
