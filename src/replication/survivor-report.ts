import { err, ok, type Result } from '../base/result.js';
import type { LogPosition } from '../raft/types.js';
import { decodeChecksummed, encodeChecksummed } from './checksummed-json.js';
import type { Identity } from './identity-file.js';
import type { Recovered } from './log-recovery.js';

/** Of the report. */
const format = 1;

/** How far a node's log goes: what a recovery compares. No secrets, no names of key state. */
export interface SurvivorReport {
  readonly clusterId: string;
  readonly memberId: string;
  readonly nodeName: string;
  readonly lastLog: LogPosition;
  /** Known to be committed, durably. */
  readonly commitIndex: number;
}

export function survivorReport(
  { clusterId, memberId, nodeName }: Pick<Identity, 'clusterId' | 'memberId' | 'nodeName'>,
  recovered: Pick<Recovered, 'snapshot' | 'entries' | 'hardState'>,
): SurvivorReport {
  const { index, term } = recovered.entries.at(-1) ?? recovered.snapshot ?? { index: 0, term: 0 };
  const { commitIndex } = recovered.hardState;
  return { clusterId, memberId, nodeName, lastLog: { index, term }, commitIndex };
}

/** As a file: JSON with a checksum, for it is carried from host to host. */
export const encodeSurvivorReport = (report: SurvivorReport): string =>
  encodeChecksummed({ format, ...report });

export function decodeSurvivorReport(text: string): Result<SurvivorReport, string> {
  const fields = decodeChecksummed(text);
  if (!fields.ok) return fields;
  const { format: found, clusterId, memberId, nodeName, lastLog, commitIndex } = fields.value;
  if (found !== format) {
    return err(`its format is ${String(found)}, and this version of xksctl reads format ${format}`);
  }
  const { index, term } =
    typeof lastLog === 'object' && lastLog !== null ? (lastLog as Partial<LogPosition>) : {};
  if (
    typeof clusterId !== 'string' ||
    typeof memberId !== 'string' ||
    typeof nodeName !== 'string' ||
    !isCount(index) ||
    !isCount(term) ||
    !isCount(commitIndex)
  ) {
    return err('a field is missing');
  }
  return ok({ clusterId, memberId, nodeName, lastLog: { index, term }, commitIndex });
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

/**
 * Paper §5.4.1: the log of the later last term is the more up-to-date one, of equal terms the longer one. The greatest
 * of a majority holds all that was committed. Positive when `left` is greater.
 */
export const compareLogs = (left: LogPosition, right: LogPosition): number =>
  left.term - right.term || left.index - right.index;
