import { err, ok, type Result } from '../base/result.js';
import type { ReadFailure } from '../replication/ordered-log.js';
import type { AdminReading } from './admin-contract.js';
import type { AdminError, AdminErrorCode } from './admin-error.js';
import type { ClusterControl } from './cluster-control.js';
import { freshnessAgeMs } from './freshness-age.js';

/** An election may be under way; below what `xksctl` waits for an answer, and the admin server for its last one. */
const readTimeoutMs = 2_500;

type ReadEngine = Pick<ClusterControl, 'readIndex' | 'status' | 'bootTimeMs'>;

const ageText = (age: number | null): string =>
  age === null
    ? 'which no quorum has confirmed since this replica started'
    : `as of ${Math.round(age / 1_000)} s ago`;

/**
 * Before a command answers from key state: waits until this node has applied everything that was acknowledged anywhere
 * before the question (ReadIndex, thesis §6.4; replication.md 4).
 *
 * @param stale asks nobody, and takes what this node knows.
 * @returns what stands behind the answer, or that there is no quorum to confirm it.
 */
export async function confirmReading(
  engine: ReadEngine,
  stale: boolean,
): Promise<Result<Omit<AdminReading, 'index'>, AdminError>> {
  if (stale) return ok({ confirmed: false, ageMs: freshnessAgeMs(engine) });
  const read = await engine.readIndex(readTimeoutMs);
  if (read.ok) return ok({ confirmed: true, ageMs: 0 });
  const look = `Use --stale to see what this node knows, ${ageText(freshnessAgeMs(engine))}`;
  return err({ code: read.error.code, message: `${obstacle(read.error)}. ${look}; ${statusHint}` });
}

const statusHint = '`xksctl cluster status` shows who was heard of.';

const codes = {
  'no-quorum': 'no-quorum',
  overloaded: 'overloaded',
  closed: 'log-failed',
} as const satisfies Record<ReadFailure['kind'], AdminErrorCode>;

/** Why the engine has confirmed nothing. */
export const readingProblem = ({ kind, reason }: ReadFailure): AdminError => ({
  code: codes[kind],
  message: reason,
});

/** Only where a quorum was waited for in vain is the quorum to be looked at. */
function obstacle({ code, message }: AdminError): string {
  if (code === 'log-failed') return `nothing is confirmed here any more: ${message}`;
  return code === 'overloaded' ? `too much is to be confirmed: ${message}` : `no quorum: ${message}`;
}

/** Of what was decided by an unconfirmed reading: it may be otherwise. */
export const unconfirmedRefusal = ({ code, message }: AdminError, age: number | null): AdminError => ({
  code,
  message: message.endsWith('.')
    ? `${message} That is by what this node knows, ${ageText(age)}.`
    : `${message}, by what this node knows, ${ageText(age)}`,
});
