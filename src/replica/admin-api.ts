import { errorText } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import { err, ok, type Result } from '../base/result.js';
import { clusterHandlers } from './admin-cluster.js';
import type { AdminContext, AdminHandlers } from './admin-context.js';
import {
  type AdminCommand,
  type AdminRequest,
  type AdminResponse,
  adminCommands,
  isAdminCommand,
} from './admin-contract.js';
import { credentialHandlers } from './admin-credentials.js';
import type { AdminError } from './admin-error.js';
import { hsmHandlers } from './admin-hsm.js';
import { keyHandlers } from './admin-keys.js';
import { keyStoreHandlers } from './admin-keystores.js';
import { pendingHandlers } from './admin-pending.js';
import { settingsHandlers } from './admin-settings.js';
import { statusHandler } from './admin-status.js';
import type { AdminCaller } from './change-proposer.js';
import type { ClusterControl } from './cluster-control.js';

/** An election may be under way. */
const readTimeoutMs = 2_000;

/** Every administrative command, apart from how it travels. */
export class AdminApi {
  readonly #handlers: AdminHandlers;
  readonly #cluster: ClusterControl;
  readonly #logger: Logger;

  constructor(context: AdminContext, logger: Logger) {
    this.#logger = logger;
    this.#cluster = context.cluster;
    this.#handlers = {
      status: statusHandler(context),
      ...keyStoreHandlers(context),
      ...credentialHandlers(context),
      ...keyHandlers(context),
      ...hsmHandlers(context),
      ...clusterHandlers(context),
      ...settingsHandlers(context),
      ...pendingHandlers(context),
    };
  }

  /**
   * To be called before a command that reads key state: what it then answers holds everything that was acknowledged
   * anywhere before (thesis §6.4).
   *
   * @returns why that can't be had; the command then answers by what this node knows. `null`: it is, or need not be.
   */
  async catchUp(command: string): Promise<string | null> {
    if (!/\.(list|show)$/.test(command)) return null;
    const read = await this.#cluster.readIndex(readTimeoutMs);
    if (read.ok) return null;
    const { freshAsOfMs } = this.#cluster.status();
    const ageMs = freshAsOfMs === null ? null : this.#cluster.bootTimeMs() - freshAsOfMs;
    const age = ageMs === null ? 'since its start' : `for ${Math.round(ageMs / 1_000)} s`;
    return `no quorum has confirmed what this node knows ${age}: changes made through others may be missing here`;
  }

  /** Never rejects. */
  async run(command: string, body: unknown, caller: AdminCaller): Promise<Result<unknown, AdminError>> {
    if (!isAdminCommand(command)) {
      return err({
        code: 'unknown-command',
        message: `this replica knows no command ${command}; is xksctl of another version than xksd?`,
      });
    }
    try {
      return await this.#runKnown(command, body, caller);
    } catch (thrown) {
      // A bug of ours: it costs this command, not the replica.
      this.#logger.error('an administrative command failed', { command, reason: errorText(thrown) });
      return err({ code: 'internal', message: `${command} failed inside the replica: ${errorText(thrown)}` });
    }
  }

  async #runKnown<C extends AdminCommand>(
    command: C,
    body: unknown,
    caller: AdminCaller,
  ): Promise<Result<AdminResponse<C>, AdminError>> {
    const parsed = adminCommands[command].request.safeParse(body);
    if (!parsed.success) {
      const issues = parsed.error.issues.map(
        ({ path, message }) => `${path.join('.') || 'request'}: ${message}`,
      );
      return err({ code: 'bad-request', message: `Malformed ${command}: ${issues.join('; ')}` });
    }
    // The schema of `command` is the one that was asked; the compiler cannot follow that through the union.
    const answer = await this.#handlers[command](parsed.data as AdminRequest<C>, caller);
    return answer.ok ? ok(answer.value) : answer;
  }
}
