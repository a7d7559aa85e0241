import type { KeyStateQueries } from '../keystate/types.js';
import type { PeerReport } from '../replication/node-reports.js';

/** Who was not heard of for so long does not count as reachable. */
export const reachableWithinMs = 3_000;

/**
 * Which members, each in a few words for the operator, are not known to run a release that knows `formatMax`: while
 * there is one, the active format must not rise to it (replication.md 15).
 *
 * @param known what the member asked, `memberId`, knows: its state, others' reports, the boot clock.
 */
export function membersBehind(
  formatMax: number,
  known: {
    readonly memberId: string;
    readonly state: KeyStateQueries;
    readonly reports: readonly PeerReport[];
    readonly nowMs: number;
  },
  /** Log index: only of those that joined after it. */
  joinedAfter = -1,
): readonly string[] {
  const { memberId: own, state, nowMs } = known;
  // One that is silent may be about to come back with an earlier release.
  const heard = known.reports.filter(({ receivedAtMs }) => nowMs - receivedAtMs <= reachableWithinMs);
  const reports = new Map(heard.map(({ memberId, report }) => [memberId, report]));
  return [...state.members()]
    .filter(
      ({ memberId, joinedIndex }) => memberId !== own && joinedIndex !== null && joinedIndex > joinedAfter,
    )
    .flatMap(({ memberId, name }) => {
      const report = reports.get(memberId);
      if (report === undefined) return [`${name} is not heard of`];
      return report.formatMax >= formatMax ? [] : [`${name} runs ${report.version}`];
    });
}
