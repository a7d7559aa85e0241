import type { Clock } from '../../base/clock.js';
import { errorText } from '../../base/guards.js';
import type { Logger } from '../../base/logger.js';
import { errorBody, type XksError, xksError } from '../../xks/errors.js';
import { isLoadBalancerPath } from '../../xks/uri-path.js';
import { AnswerBytes } from './answer-bytes.js';
import type { ArrivalClock } from './arrival-clock.js';
import type { Connection } from './connection.js';
import type { HttpAnswer, HttpHandler, HttpRefusal, HttpRequest } from './exchange.js';
import type { HttpLimits } from './limits.js';
import type { ReceivingBudget } from './receiving-budget.js';
import { refusalAnswer } from './refusal.js';

const readyBody = Buffer.from('{"status":"ready"}');
const notReadyBody = Buffer.from('{"status":"not ready"}');
const failed = xksError('InternalException', 'The proxy failed.');

/** What both HTTP versions stand behind: limits, the handler, and the answers that need no handler. */
export class Front {
  readonly limits: HttpLimits;
  readonly clock: Clock;
  readonly arrivals: ArrivalClock;
  readonly budget: ReceivingBudget;
  readonly answerBytes: AnswerBytes;
  readonly #handler: HttpHandler;
  readonly #readiness: () => { readonly ready: boolean };
  readonly #onRefusal: (refused: HttpRefusal) => void;
  readonly #logger: Logger;
  #draining = false;
  /** What it was when this process began to leave; `null` before. */
  #leftWith: { readonly ready: boolean } | null = null;

  constructor(deps: {
    readonly limits: HttpLimits;
    readonly clock: Clock;
    readonly arrivals: ArrivalClock;
    readonly budget: ReceivingBudget;
    readonly handler: HttpHandler;
    readonly readiness: () => { readonly ready: boolean };
    readonly onRefusal: (refused: HttpRefusal) => void;
    readonly logger: Logger;
  }) {
    this.limits = deps.limits;
    this.clock = deps.clock;
    this.arrivals = deps.arrivals;
    this.budget = deps.budget;
    this.answerBytes = new AnswerBytes(deps.clock, deps.limits);
    this.#handler = deps.handler;
    this.#readiness = deps.readiness;
    this.#onRefusal = deps.onRefusal;
    this.#logger = deps.logger;
  }

  get draining(): boolean {
    return this.#draining;
  }

  startDraining(): void {
    this.#draining = true;
  }

  /** Each answer is the last on its connection from now on; load balancers hear nothing of it, as others serve. */
  startLeaving(): void {
    this.#leftWith = this.#readiness();
  }

  /**
   * Whether this answer, whose request still counts as in flight, is the last on its connection. An old connection is
   * left in a quiet moment if one comes: on HTTP/2 further requests may be on their way while we say so.
   */
  mustClose(connection: Connection): boolean {
    if (this.#draining || this.#leftWith !== null) return true;
    return connection.retired && (connection.inFlight <= 1 || connection.overdue);
  }

  /** Neither throws nor rejects. */
  answer(request: HttpRequest): Promise<HttpAnswer> {
    try {
      if ((request.method !== 'GET' && request.method !== 'HEAD') || !isLoadBalancerPath(request.target)) {
        return this.#handler(request).catch(this.#handlerFailed);
      }
      // Ready or not and no more (X-H4): this listener faces the network.
      const { ready } = this.#leftWith ?? this.#readiness();
      const isWell = ready && !this.#draining;
      return Promise.resolve(isWell ? { status: 200, body: readyBody } : { status: 503, body: notReadyBody });
    } catch (thrown) {
      return Promise.resolve(this.#handlerFailed(thrown));
    }
  }

  /** A bug of the handler: it promised not to reject. */
  readonly #handlerFailed = (thrown: unknown): HttpAnswer => {
    this.#logger.error('The request handler failed', { error: errorText(thrown) });
    return { status: failed.status, body: errorBody(failed) };
  };

  /** The answer to what is refused here; counts it. */
  refuse(refused: XksError, connection: Connection, detail?: string): HttpAnswer {
    this.#onRefusal({
      status: refused.status,
      errorName: refused.errorName,
      reason: detail === undefined ? refused.errorMessage : `${refused.errorMessage} ${detail}`,
      remoteAddress: connection.remoteAddress,
    });
    return refusalAnswer(refused);
  }

  /** Ends a connection whose peer sends a body in so many pieces that each costs more than it brings. */
  cutOff(connection: Connection): void {
    if (connection.socket.destroyed) return;
    this.drop('A body came in too many pieces.', connection.remoteAddress);
    connection.socket.destroy();
  }

  /** A connection that was closed without any answer. */
  drop(reason: string, remoteAddress: string): void {
    this.#onRefusal({ status: 0, errorName: '', reason, remoteAddress });
  }
}
