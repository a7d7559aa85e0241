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
  readsKeyState,
} from './admin-contract.js';
import { credentialHandlers } from './admin-credentials.js';
import type { AdminError } from './admin-error.js';
import { hsmHandlers } from './admin-hsm.js';
import { keyHandlers } from './admin-keys.js';
import { keyStoreHandlers } from './admin-keystores.js';
import { pendingHandlers } from './admin-pending.js';
import { confirmReading, unconfirmedRefusal } from './admin-reading.js';
import { settingsHandlers } from './admin-settings.js';
import { statusHandler } from './admin-status.js';
import type { AdminCaller } from './change-proposer.js';
import { freshnessAgeMs } from './freshness-age.js';

const forCaller = ({ code, message }: AdminError): AdminError => ({ code, message });

/** Every administrative command, apart from how it travels. */
export class AdminApi {
  readonly #handlers: AdminHandlers;
  readonly #context: AdminContext;
  readonly #logger: Logger;

  constructor(context: AdminContext, logger: Logger) {
    this.#logger = logger;
    this.#context = context;
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
    const request = parsed.data as AdminRequest<C>;
    if (readsKeyState(command)) return this.#read(command, request, caller);
    return this.#change(command, request, caller) as Promise<Result<AdminResponse<C>, AdminError>>;
  }

  /**
   * What key state here refuses may be otherwise elsewhere: that is said only once a quorum has confirmed it. What the log
   * or another member refused is said as it is.
   */
  async #change<C extends AdminCommand>(command: C, request: AdminRequest<C>, caller: AdminCaller) {
    const { cluster } = this.#context;
    const index = this.#context.state.appliedIndex;
    const answer = await this.#handlers[command](request, caller);
    if (answer.ok || answer.error.byState !== true) return answer;
    const reading = await confirmReading(cluster, false);
    if (!reading.ok) return err(unconfirmedRefusal(answer.error, freshnessAgeMs(cluster)));
    const confirmed =
      this.#context.state.appliedIndex > index ? await this.#handlers[command](request, caller) : answer;
    return confirmed.ok ? confirmed : err(forCaller(confirmed.error));
  }

  async #read<C extends AdminCommand>(
    command: C,
    request: AdminRequest<C>,
    caller: AdminCaller,
  ): Promise<Result<AdminResponse<C>, AdminError>> {
    const stale = 'stale' in request && request.stale === true;
    const reading = await confirmReading(this.#context.cluster, stale);
    if (!reading.ok) return reading;
    const { confirmed, ageMs } = reading.value;
    const index = this.#context.state.appliedIndex;
    const answer = await this.#handlers[command](request, caller);
    if (!answer.ok) return err(confirmed ? forCaller(answer.error) : unconfirmedRefusal(answer.error, ageMs));
    // The whole of what the contract says, which the compiler cannot follow through the union either.
    return ok({ ...answer.value, reading: { confirmed, index, ageMs } } as AdminResponse<C>);
  }
}
