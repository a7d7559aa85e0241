import type { MemberId } from '../raft/types.js';
import type { NodeReport } from './peer-message.js';

/** Members whose last report is kept. */
export const reportsMax = 64;

export interface PeerReport {
  readonly memberId: MemberId;
  readonly report: NodeReport;
  /** Boot clock, ms. */
  readonly receivedAtMs: number;
}

/** The last report of each member. */
export class NodeReports {
  readonly #reports = new Map<MemberId, PeerReport>();

  received(memberId: MemberId, report: NodeReport, receivedAtMs: number): void {
    if (!this.#reports.has(memberId) && this.#reports.size >= reportsMax) return;
    this.#reports.set(memberId, { memberId, report, receivedAtMs });
  }

  retain(members: ReadonlySet<MemberId>): void {
    for (const memberId of [...this.#reports.keys()]) {
      if (!members.has(memberId)) this.#reports.delete(memberId);
    }
  }

  list(): readonly PeerReport[] {
    return [...this.#reports.values()];
  }

  /** For the operator: the node's name as it reported it, else the member's id. */
  nameOf(memberId: MemberId): string {
    const name = this.#reports.get(memberId)?.report.nodeName;
    return name === undefined ? `member ${memberId}` : `node ${name} (member ${memberId})`;
  }
}
