import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import { checkCommand } from '../keystate/command-checks.js';
import { changesMembership } from '../keystate/command-class.js';
import { checkActiveFormat } from '../keystate/command-format.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Command, CommandResult } from '../keystate/types.js';
import type { OrderedLog, ProposeFailure, ProposeOptions } from '../replication/ordered-log.js';
import { leadLostText, membershipPendingText } from '../replication/proposals.js';
import type { AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import { type Change, namesIn } from './change-names.js';
import type { StatePublication } from './state-publication.js';

/** How long a command waits for the serving processes of this node to act on its change. */
const acknowledgementTimeoutMs = 2_000;
/** How long a change may take to be taken by a leader and become durable on a quorum: an election, and a margin. */
const proposeTimeoutMs = 5_000;

export type { Change } from './change-names.js';

/** Who asked for a change. */
export interface AdminCaller {
  /** From SO_PEERCRED; `null` when the kernel had none. */
  readonly uid: number | null;
  /** Where `uid` is another node's: how the record names who asked. */
  readonly by?: string;
  /** Of what is asked, unique: who asks again with the same one gets the first outcome. */
  readonly requestId: string;
}

/** For the record: who wants a change. */
export type Author = AdminCaller | { readonly by: string; readonly requestId?: undefined };

/** A change that is durable. */
export type ChangeReport = AdminResponse<'keystore.create'>['change'];

export interface ChangeProposerOptions {
  readonly log: OrderedLog<CommandResult>;
  readonly encodeCommand: (command: Command) => Uint8Array;
  /** Of the cluster: what is newer must not get into the log, where an earlier release would stop at it. */
  readonly activeFormat: () => number;
  readonly publication: StatePublication;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  readonly acknowledgementTimeoutMs?: number;
}

/** Puts changes into the log and follows them until every serving process of this node acts on them. */
export class ChangeProposer {
  readonly #options: ChangeProposerOptions;

  constructor(options: ChangeProposerOptions) {
    this.#options = options;
  }

  /** @param options `onlyTerm` of `ProposeOptions`, for a change that was worked out from what the leader of a term knew. */
  async propose(
    change: Change,
    author: Author,
    options: Pick<ProposeOptions, 'onlyTerm'> = {},
  ): Promise<Result<ChangeReport, AdminError>> {
    const { log, clock, random, logger } = this.#options;
    const by = author.by ?? `uid=${'uid' in author ? (author.uid ?? 'unknown') : 'unknown'}`;
    const atMs = clock.wallMs();
    const requestId = author.requestId ?? mintRequestId(atMs, random.bytes(requestIdRandomBytes));
    const command: Command = { ...change, requestId, atMs, by };
    const uid = 'uid' in author ? author.uid : null;
    const fields = { command: change.type, ...namesIn(change), requestId, by, uid };
    // What no state would take needs no place in the log.
    const invalid = checkCommand(command) ?? checkActiveFormat(command, this.#options.activeFormat());
    if (invalid !== null) return err(invalid);
    const proposed = await log.propose(this.#options.encodeCommand(command), {
      membership: changesMembership(command),
      timeoutMs: proposeTimeoutMs,
      ...options,
    });
    if (!proposed.ok) {
      const failure = wordFailure(proposed.error, requestId);
      logger.error('a change was not made', { ...fields, code: failure.code, reason: failure.message });
      return err(failure);
    }
    const { index, result } = proposed.value;
    if (result === null) return err({ code: 'internal', message: 'a change without a result' });
    if (!result.ok) {
      logger.warn('a change was refused', { ...fields, index, reason: result.error.message });
      return err(result.error);
    }
    const repeated = result.repeated === true;
    logger.info('key state changed', { ...fields, index, repeated });
    return ok({ ...(await this.#follow(index)), index: result.revision, repeated });
  }

  /** Of a change that was made before, at `index`, and is asked for again. */
  async followAgain(index: number): Promise<ChangeReport> {
    return { ...(await this.#follow(index)), index, repeated: true };
  }

  async #follow(index: number): Promise<Omit<ChangeReport, 'index' | 'repeated'>> {
    const timeoutMs = this.#options.acknowledgementTimeoutMs ?? acknowledgementTimeoutMs;
    const laggards = await this.#options.publication.acknowledgedBy(index, timeoutMs);
    if (laggards.length > 0) {
      this.#options.logger.warn('serving processes have not applied a change in time', { index, laggards });
    }
    const unconfirmed = laggards.map(({ slot, pid, appliedIndex, connected }) => ({
      process: slot === null ? null : `serving-${slot}`,
      pid,
      appliedIndex,
      connected,
    }));
    return { applied: unconfirmed.length === 0, unconfirmed };
  }
}

function wordFailure(failure: ProposeFailure, requestId: string): AdminError {
  switch (failure.kind) {
    case 'overloaded':
      return { code: 'overloaded', message: 'Too many changes wait to become durable; nothing was changed.' };
    case 'too-large':
      return { code: 'limit', message: 'The change is larger than the log takes; nothing was changed.' };
    case 'not-taken':
      if (failure.reason === membershipPendingText) {
        return {
          code: 'conflict',
          message: `Nothing was changed: ${failure.reason}. Try again in a moment; \`xksctl cluster status\` shows what it waits for.`,
        };
      }
      if (failure.reason === leadLostText) {
        return {
          code: 'conflict',
          message: `Nothing was changed: ${failure.reason}. Try again in a moment.`,
        };
      }
      return {
        code: 'no-quorum',
        message:
          `Nothing was changed, and nothing will be: no leader took the change (${failure.reason}). A majority of the ` +
          'voters must be running and able to reach each other; `xksctl cluster status` shows who was heard of.',
      };
    case 'unknown':
      return {
        code: 'outcome-unknown',
        message:
          `It is not known whether the change was made (${failure.reason}). Repeat it with ` +
          `--request-id ${requestId}: it is carried out once at most.`,
      };
    case 'closed':
      return {
        code: 'log-failed',
        message:
          `The durable log takes no more (${failure.reason}). Whether this change was kept shows once the ` +
          `replica is back: repeat it then with --request-id ${requestId}.`,
      };
  }
}
