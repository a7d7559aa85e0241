import { Client, errors } from 'undici';
import { systemClock } from '../base/clock.js';
import { errorText } from '../base/guards.js';
import { systemRandom } from '../base/random.js';
import {
  type AdminCommand,
  type AdminReading,
  type AdminRequest,
  type AdminResponse,
  adminApiVersion,
  adminCommands,
  adminErrorSchema,
  adminResponseBytesMax,
  mintRequestId,
  requestIdHeader,
  requestIdRandomBytes,
} from '../replica/admin-contract.js';
import { connectFailure } from './admin-socket.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { durationText } from './output.js';
import { type Stake, stakeOf, unanswered } from './unanswered.js';

const connectTimeoutMs = 5_000;
/** Longer than the replica's own limits for the HSM and for acknowledgements together. */
const answerTimeoutMs = 60_000;
/** What needs no HSM and changes nothing is answered at once. */
const readTimeoutMs = 5_000;

/** Errors with which no request was sent: of connect(2), and undici's own. */
const unconnected: ReadonlySet<string> = new Set([
  ...['ENOENT', 'ECONNREFUSED', 'EACCES', 'EPERM', 'ENOTSOCK', 'EPROTOTYPE', 'EINVAL', 'ENAMETOOLONG'],
  ...['EAGAIN', 'ENOTDIR', 'ELOOP', 'UND_ERR_CONNECT_TIMEOUT'],
]);

/** Speaks to the replica through its admin socket. */
export class AdminClient {
  readonly #socketPath: string;
  /** Of what this run of `xksctl` changes. */
  readonly #requestId: string;

  readonly #warn: (message: string) => void;
  #warned = false;

  /** @param requestId of an earlier run whose outcome is not known; without it, a new one. */
  constructor(socketPath: string, requestId: string | null, warn: (message: string) => void) {
    this.#socketPath = socketPath;
    this.#warn = warn;
    this.#requestId =
      requestId ?? mintRequestId(systemClock.wallMs(), systemRandom.bytes(requestIdRandomBytes));
  }

  /** @throws CommandFailure with the replica's words, or with why there are none. */
  async call<C extends AdminCommand>(command: C, request: AdminRequest<C>): Promise<AdminResponse<C>> {
    const stake = stakeOf(command, request);
    const { status, text } = await this.#post(command, stake, JSON.stringify(request));
    const body = parseJson(text);
    if (status !== 200) {
      const failure = adminErrorSchema.safeParse(body);
      if (failure.success) throw replicaFailure(failure.data.error);
      throw this.#misunderstood(stake, `the answer of ${this.#socketPath} (HTTP ${status}) is not xksd's`);
    }
    const answer = adminCommands[command].response.safeParse(body);
    if (!answer.success) {
      throw this.#misunderstood(
        stake,
        `the answer of xksd to ${command} is not what this xksctl expects; are they of the same version?`,
      );
    }
    if ('reading' in answer.data) this.#heed(answer.data.reading);
    // The schema of `command` made it; the compiler cannot follow that through the union.
    return answer.data as AdminResponse<C>;
  }

  /** Of several questions of one command, once. */
  #heed({ confirmed, ageMs }: AdminReading): void {
    if (confirmed || this.#warned) return;
    this.#warned = true;
    const known =
      ageMs === null ? 'none has confirmed it since its start' : `as of ${durationText(ageMs)} ago`;
    this.#warn(
      `Careful: no quorum was asked. This is what this node knows, ${known}: changes made since may be missing.`,
    );
  }

  #misunderstood(stake: Stake, message: string): CommandFailure {
    return stake === 'reading' || stake === 'question'
      ? new CommandFailure('protocol', message)
      : new CommandFailure(
          'protocol',
          `${message} What was asked may have been done.`,
          exitCodes.outcomeUnknown,
        );
  }

  async #post(
    command: AdminCommand,
    stake: Stake,
    body: string,
  ): Promise<{ readonly status: number; readonly text: string }> {
    const timeoutMs = stake === 'reading' ? readTimeoutMs : answerTimeoutMs;
    const interruption = new AbortController();
    const interrupt = (): void => interruption.abort();
    const mayHaveEffect = stake === 'change' || stake === 'deed';
    if (mayHaveEffect) for (const signal of interruptions) process.once(signal, interrupt);
    const client = new Client('http://xksd.localhost', {
      connect: { socketPath: this.#socketPath, timeout: connectTimeoutMs },
      headersTimeout: timeoutMs,
      bodyTimeout: timeoutMs,
      maxResponseSize: adminResponseBytesMax,
    });
    try {
      const response = await client.request({
        method: 'POST',
        path: `/${adminApiVersion}/${command}`,
        headers: { 'content-type': 'application/json', [requestIdHeader]: this.#requestId },
        body,
        signal: interruption.signal,
      });
      return { status: response.statusCode, text: await response.body.text() };
    } catch (thrown) {
      const interrupted = interruption.signal.aborted;
      throw interrupted
        ? unanswered(command, stake, this.#requestId, 'interrupted before the replica answered')
        : this.#failureOf(command, stake, timeoutMs, thrown);
    } finally {
      for (const signal of interruptions) process.removeListener(signal, interrupt);
      await client.destroy();
    }
  }

  #failureOf(command: AdminCommand, stake: Stake, timeoutMs: number, thrown: unknown): CommandFailure {
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
    if (unconnected.has(code)) return connectFailure(this.#socketPath, code, errorText(thrown));
    const isTimeout =
      thrown instanceof errors.HeadersTimeoutError || thrown instanceof errors.BodyTimeoutError;
    const isEnd = code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE';
    const why = isTimeout
      ? `the replica has not answered for ${timeoutMs / 1_000} s`
      : isEnd
        ? 'the replica closed the connection before it answered'
        : `the answer of the replica could not be read (${errorText(thrown)})`;
    return unanswered(command, stake, this.#requestId, why);
  }
}

/** With which an operator loses patience. */
const interruptions = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** In the replica's words, with the exit code that replication.md gives to what scripts must tell apart. */
function replicaFailure({
  code,
  message,
}: {
  readonly code: string;
  readonly message: string;
}): CommandFailure {
  switch (code) {
    case 'outcome-unknown':
    case 'log-failed':
      return new CommandFailure(code, message, exitCodes.outcomeUnknown);
    case 'no-quorum':
      return new CommandFailure(code, message, exitCodes.notTaken);
    default:
      return new CommandFailure(code, message);
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
