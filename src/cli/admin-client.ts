import { Client, errors } from 'undici';
import { errorText } from '../base/guards.js';
import { systemRandom } from '../base/random.js';
import {
  type AdminCommand,
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
import { CommandFailure } from './command-failure.js';

const connectTimeoutMs = 5_000;
/** Longer than the replica's own limits for the HSM and for acknowledgements together. */
const answerTimeoutMs = 60_000;

/** Speaks to the replica through its admin socket. */
export class AdminClient {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** @throws CommandFailure with the replica's words, or with why there are none. */
  async call<C extends AdminCommand>(command: C, request: AdminRequest<C>): Promise<AdminResponse<C>> {
    const { status, text } = await this.#post(`/${adminApiVersion}/${command}`, JSON.stringify(request));
    const body = parseJson(text);
    if (status !== 200) {
      const failure = adminErrorSchema.safeParse(body);
      if (failure.success) throw new CommandFailure(failure.data.error.code, failure.data.error.message);
      throw new CommandFailure(
        'protocol',
        `the answer of ${this.#socketPath} (HTTP ${status}) is not xksd's`,
      );
    }
    const answer = adminCommands[command].response.safeParse(body);
    if (!answer.success) {
      throw new CommandFailure(
        'protocol',
        `the answer of xksd to ${command} is not what this xksctl expects; are they of the same version?`,
      );
    }
    // The schema of `command` made it; the compiler cannot follow that through the union.
    return answer.data as AdminResponse<C>;
  }

  async #post(path: string, body: string): Promise<{ readonly status: number; readonly text: string }> {
    const client = new Client('http://xksd.localhost', {
      connect: { socketPath: this.#socketPath, timeout: connectTimeoutMs },
      headersTimeout: answerTimeoutMs,
      bodyTimeout: answerTimeoutMs,
      maxResponseSize: adminResponseBytesMax,
    });
    try {
      const response = await client.request({
        method: 'POST',
        path,
        headers: { 'content-type': 'application/json' },
        body,
      });
      return { status: response.statusCode, text: await response.body.text() };
    } catch (thrown) {
      throw this.#failureOf(thrown);
    } finally {
      await client.destroy();
    }
  }

  #failureOf(thrown: unknown): CommandFailure {
    if (thrown instanceof errors.HeadersTimeoutError || thrown instanceof errors.BodyTimeoutError) {
      return new CommandFailure(
        'timeout',
        `the replica did not answer within ${answerTimeoutMs / 1_000} s. Whether it did what was asked is not known: ` +
          'look before you repeat it.',
      );
    }
    const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : '';
    if (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE') {
      return new CommandFailure(
        'outcome-unknown',
        'the replica ended before it answered. Whether it did what was asked is not known: look before you repeat it.',
      );
    }
    return connectFailure(this.#socketPath, code, errorText(thrown));
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
