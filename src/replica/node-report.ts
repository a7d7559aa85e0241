import { createHash } from 'node:crypto';
import { commandFormatMax } from '../keystate/command-format.js';
import type { Config } from '../ops/config.js';
import type { NodeReport } from '../replication/peer-message.js';
import type { StatePublication } from './state-publication.js';

/** Of what callers meet on whichever node they reach, and what should therefore be the same on all of them. */
export function configHash({ xks }: Config): string {
  const { requestDeadlineMs, mtls } = xks;
  const shared = JSON.stringify([requestDeadlineMs, mtls?.subject ?? null]);
  return createHash('sha256').update(shared).digest('hex').slice(0, 16);
}

/** What this node tells the others of itself (replication.md 15). */
export function nodeReport(options: {
  readonly config: Config;
  readonly version: string;
  readonly wallMs: number;
  readonly readyServingProcesses: number;
  /** `null` while it is not there yet. */
  readonly publication: StatePublication | null;
}): Omit<NodeReport, 'appliedIndex' | 'stateHashes'> {
  const { config, version, wallMs, readyServingProcesses, publication } = options;
  const applied = (publication?.links() ?? []).map(({ appliedIndex }) => appliedIndex);
  return {
    nodeName: config.node.name,
    version,
    formatMax: commandFormatMax,
    configHash: configHash(config),
    wallMs,
    servingAppliedIndex: applied.length === 0 ? 0 : Math.min(...applied),
    readyServingProcesses,
  };
}
