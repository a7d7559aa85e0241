import type { Clock } from '../base/clock.js';
import { invariant } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import { checkCommand } from '../keystate/command-checks.js';
import { mintRequestId, requestIdRandomBytes } from '../keystate/request-id.js';
import type { Command, CommandEnvelope, CommandResult } from '../keystate/types.js';
import type { OrderedLog, ProposeFailure } from '../replication/ordered-log.js';
import type { AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { StatePublication } from './state-publication.js';

/** How long a command waits for the serving processes of this node to act on its change. */
const acknowledgementTimeoutMs = 2_000;

type Unsigned<C> = C extends CommandEnvelope ? Omit<C, keyof CommandEnvelope> : never;

/** A command without what the proposer puts in: request id, time, who asked. */
export type Change = Unsigned<Command>;

/** Who asked for a change. */
export interface AdminCaller {
  /** From SO_PEERCRED; `null` when the kernel had none. */
  readonly uid: number | null;
}

/** A change that is durable. */
export type ChangeReport = AdminResponse<'keystore.create'>['change'];

export interface ChangeProposerOptions {
  readonly log: OrderedLog<CommandResult>;
  readonly encodeCommand: (command: Command) => Uint8Array;
  readonly publication: StatePublication;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  readonly acknowledgementTimeoutMs?: number;
}

/** Puts changes into the log and follows them until every serving process acts on them. */
export class ChangeProposer {
  readonly #options: ChangeProposerOptions;

  constructor(options: ChangeProposerOptions) {
    this.#options = options;
  }

  async propose(change: Change, caller: AdminCaller): Promise<Result<ChangeReport, AdminError>> {
    const { log, clock, random, logger } = this.#options;
    const by = `uid=${caller.uid ?? 'unknown'}`;
    const atMs = clock.wallMs();
    const requestId = mintRequestId(atMs, random.bytes(requestIdRandomBytes));
    const command: Command = { ...change, requestId, atMs, by };
    const fields = { command: change.type, ...nameOf(change), requestId, uid: caller.uid };
    // What no state would take needs no place in the log.
    const invalid = checkCommand(command);
    if (invalid !== null) return err(invalid);
    const proposed = await log.propose(this.#options.encodeCommand(command));
    if (!proposed.ok) {
      const failure = wordFailure(proposed.error);
      logger.error('a change was not made', { ...fields, code: failure.code, reason: failure.message });
      return err(failure);
    }
    const { index, result } = proposed.value;
    invariant(result !== null, 'an entry of ours has a result');
    if (!result.ok) {
      logger.warn('a change was refused', { ...fields, index, reason: result.error.message });
      return err(result.error);
    }
    logger.info('key state changed', { ...fields, index });
    return ok(await this.#follow(index));
  }

  async #follow(index: number): Promise<ChangeReport> {
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
    return { index, applied: unconfirmed.length === 0, unconfirmed };
  }
}

/** What the log line of a change says about its object: names, nothing sealed. */
function nameOf(change: Change): Readonly<Record<string, string>> {
  switch (change.type) {
    case 'cluster.init':
      return { clusterId: change.clusterId };
    case 'token.prepare':
      return { tokenSerial: change.token.serial };
    case 'keystore.create':
    case 'keystore.enable':
    case 'keystore.disable':
      return { keyStore: change.name };
    case 'credential.create':
    case 'credential.retire':
      return { keyStore: change.keyStore, accessKeyId: change.accessKeyId };
    case 'key.create':
    case 'key.enable':
    case 'key.disable':
      return { keyStore: change.keyStore, externalKeyId: change.externalKeyId };
    case 'keystore.set':
      return { keyStore: change.name };
    case 'cluster.upgrade':
      return { format: `${change.format}` };
    case 'cluster.settings':
      return {};
    case 'cluster.recover':
      return { clusterId: change.newClusterId, memberId: change.survivor.memberId };
    case 'member.register':
    case 'member.add':
      return { memberId: change.memberId, member: change.name };
    case 'member.join':
    case 'member.promote':
    case 'member.remove':
    case 'member.update':
      return { memberId: change.memberId };
    case 'member.forget':
      return { member: change.member };
    case 'pending.confirm':
    case 'pending.drop':
      return { pendingIndex: `${change.index}` };
  }
}

function wordFailure(failure: ProposeFailure): AdminError {
  switch (failure.kind) {
    case 'overloaded':
      return { code: 'overloaded', message: 'Too many changes wait to become durable; nothing was changed.' };
    case 'too-large':
      return { code: 'limit', message: 'The change is larger than the log takes; nothing was changed.' };
    case 'not-taken':
      return {
        code: 'not-taken',
        message: `No leader took the change (${failure.reason}); nothing was changed, and nothing will be.`,
      };
    case 'unknown':
      return {
        code: 'outcome-unknown',
        message: `Whether the change was made is not known (${failure.reason}): look before repeating it.`,
      };
    case 'closed':
      return {
        code: 'log-failed',
        message:
          `The durable log takes no more (${failure.reason}). Whether this change was kept shows once the ` +
          'replica is back: look before repeating it.',
      };
  }
}
