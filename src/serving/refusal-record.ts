import type { Logger } from '../base/logger.js';
import type { ServingMetrics } from '../ops/metrics.js';
import type { HttpRefusal } from './http/exchange.js';

/** Logs and counts what the server refused by itself (X-L2): such requests never reach the pipeline. */
export function refusalRecorder(
  logger: Logger,
  metrics: Pick<ServingMetrics, 'observeRequest'>,
): (refusal: HttpRefusal) => void {
  return ({ status, errorName, reason, remoteAddress }) => {
    // Without an answer there was no request: a handshake that failed, a connection over the limit.
    if (status === 0) {
      logger.info('connection refused', { reason, remoteAddress });
      return;
    }
    logger.info('request refused', { status, errorName, reason, remoteAddress });
    metrics.observeRequest({
      operation: 'unknown',
      keyStore: '',
      exception: errorName,
      errorType: status >= 500 || status === 429 ? 'retryable' : 'non_retryable',
      durationSeconds: 0,
    });
  };
}
