import type { Clock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import type { Result } from '../base/result.js';
import { checkActiveFormat } from '../keystate/command-format.js';
import type { IvReservation } from '../keystate/iv-budget.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Command, CommandResult } from '../keystate/types.js';
import type { AppliedEntry, OrderedLog, ProposeFailure } from '../replication/ordered-log.js';

const proposeTimeoutMs = 5_000;
/** Since which active format reservations have numbers. */
const numberedSinceFormat = 4;

/** A reservation on its way: the same until it is in key state. */
export interface AskedIvs {
  /** Of its holder; `null` from a process that does not number. */
  readonly sequence: number | null;
  readonly reservations: readonly IvReservation[];
}

/** `nowhere`: it is in no log, or without effect there. */
export type IvOutcome =
  | { readonly kind: 'counted'; readonly index: number }
  | { readonly kind: 'nowhere' | 'unknown' };

type Proposed = Result<AppliedEntry<CommandResult>, ProposeFailure>;

export interface IvProposalsOptions {
  /** To be settled once, later or at once. */
  readonly propose: (command: Uint8Array, timeoutMs: number, settled: (outcome: Proposed) => void) => void;
  readonly encodeCommand: (command: Command) => Uint8Array;
  readonly activeFormat: () => number;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
}

/** `IvProposalsOptions.propose` over a log. */
export const proposingTo =
  (log: Pick<OrderedLog<CommandResult>, 'propose'>): IvProposalsOptions['propose'] =>
  (command, timeoutMs, settled) => {
    log.propose(command, { timeoutMs }).then(settled, (error: unknown) => {
      settled({ ok: false, error: { kind: 'unknown', reason: errorText(error) } });
    });
  };

/** Proposes reservations of random IVs, and judges what became of them. */
export class IvProposals {
  readonly #options: IvProposalsOptions;
  #isFailing = false;

  constructor(options: IvProposalsOptions) {
    this.#options = options;
  }

  /** @param settled called once, later or at once. */
  propose(holder: string, { sequence, reservations }: AskedIvs, settled: (outcome: IvOutcome) => void): void {
    const { propose, encodeCommand, activeFormat, clock, random } = this.#options;
    let bytes: Uint8Array;
    try {
      const atMs = clock.wallMs();
      const requestId = mintRequestId(atMs, random.bytes(requestIdRandomBytes));
      const envelope = { type: 'iv.reserve', requestId, atMs, by: 'xksd', holder, reservations } as const;
      const isNumbered = sequence !== null && activeFormat() >= numberedSinceFormat;
      const command: Command = isNumbered ? { ...envelope, sequence } : envelope;
      if (checkActiveFormat(command, activeFormat()) !== null) {
        settled({ kind: 'nowhere' });
        return;
      }
      bytes = encodeCommand(command);
    } catch (error) {
      // Later ones must not wait for ever for one that cannot be made.
      this.#options.logger.error('a bug ended a reservation of random IVs', { error: errorText(error) });
      settled({ kind: 'nowhere' });
      return;
    }
    propose(bytes, proposeTimeoutMs, (proposed) => settled(this.#judge(proposed)));
  }

  #judge(proposed: Proposed): IvOutcome {
    if (!proposed.ok) {
      const { error } = proposed;
      this.#tell('reason' in error ? error.reason : error.kind);
      return { kind: error.kind === 'unknown' || error.kind === 'closed' ? 'unknown' : 'nowhere' };
    }
    const { index, result } = proposed.value;
    const refusal = result === null || result.ok ? null : result.error;
    this.#tell(refusal?.message ?? null);
    // Repeated, too: under that number nothing else was ever asked for.
    return refusal === null ? { kind: 'counted', index } : { kind: 'nowhere' };
  }

  /** One line when it begins to fail, one when it does no longer. */
  #tell(reason: string | null): void {
    const isFailing = reason !== null;
    if (isFailing === this.#isFailing) return;
    this.#isFailing = isFailing;
    const { logger } = this.#options;
    if (isFailing) {
      logger.warn('random IVs cannot be reserved: they are counted on this node, and reported later', {
        reason,
      });
    } else {
      logger.info('random IVs are reserved again');
    }
  }
}
