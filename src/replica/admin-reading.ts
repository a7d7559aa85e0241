import { err, ok, type Result } from '../base/result.js';
import type { AdminReading } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
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
  return err({
    code: 'no-quorum',
    message:
      `no quorum: ${read.error.message}. Use --stale to see what this node knows, ${ageText(freshnessAgeMs(engine))}; ` +
      '`xksctl cluster status` shows who was heard of.',
  });
}

/** Of what was looked for by an unconfirmed reading: it may be there all the same. */
export const unconfirmedRefusal = (error: AdminError, age: number | null): AdminError => ({
  ...error,
  message: `${error.message}, by what this node knows, ${ageText(age)}`,
});
