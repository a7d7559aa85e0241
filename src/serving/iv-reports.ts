import type { Timers } from '../base/timers.js';
import type { KeyState } from '../keystate/key-state.js';
import type { Command } from '../keystate/types.js';
import { encodeJsonFrame } from '../ops/frames.js';
import { FrameType, type IvWants } from '../ops/state-link.js';
import type { IvAccounts } from './iv-accounts.js';

/** What came up in this time is asked for together. */
const gatheredMs = 50;
/** Asked again, with what was used meanwhile, for as long as it is not granted. */
const repeatedMs = 1_000;

export interface IvReportsOptions {
  readonly accounts: IvAccounts;
  readonly processId: string;
  readonly state: () => KeyState | null;
  readonly send: (frame: Buffer) => void;
  readonly timers: Timers;
}

/**
 * Asks the replica of this node for blocks of random IVs, behind the requests. The replica puts them into the log; the
 * grant comes back as that very entry of key state.
 */
export class IvReports {
  readonly #options: IvReportsOptions;
  #cancel: (() => void) | null = null;
  #isSoon = false;
  #closed = false;

  constructor(options: IvReportsOptions) {
    this.#options = options;
    options.accounts.whenWanted(() => this.#arm(gatheredMs));
  }

  /** Key state is another one, by `command` or by a snapshot. */
  onState(state: KeyState, command: Command | null): void {
    const { accounts, processId } = this.#options;
    if (command?.type !== 'iv.reserve' || command.holder !== processId) return;
    accounts.granted(command.reservations, state);
    if (accounts.wantsAny) this.#arm(gatheredMs);
    // What it was last told is over, however late this grant came.
    else this.#send(state, []);
  }

  close(): void {
    this.#closed = true;
    this.#cancel?.();
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
    if (!accounts.wantsAny) return;
    this.#arm(repeatedMs);
    const known = state();
    // Before format 3 no member is to hear of it, and the replica of this node might not know the frame.
    if (known === null || known.activeFormat() < 3) return;
    // None: what was wanted before is over, and must not be counted with this process when it ends.
    this.#send(known, accounts.wants(known));
  }

  #send({ appliedIndex }: KeyState, reservations: IvWants['reservations']): void {
    const wants: IvWants = { appliedIndex, reservations };
    this.#options.send(encodeJsonFrame(FrameType.ivWants, wants));
  }
}
