import { Metadata, type StatusObject, status } from '@grpc/grpc-js';

/**
 * Why a member does not listen to another. The first two tell the refused node something about itself: it stops serving,
 * durably (replication.md 14).
 */
export type RefusalReason =
  /** The sender was a member and is none any more. */
  | 'removed'
  /** The sender's cluster id is that of the cluster that ours came from by a recovery, which left it behind. */
  | 'other-cluster'
  /** The sender's cluster id is not ours, and neither is the sender: that says nothing about its own cluster. */
  | 'foreign-cluster'
  /** Never heard of the sender. Those who were just added may be ahead of us. */
  | 'unknown'
  /** The sender's certificate is another node's. */
  | 'wrong-name'
  /** The receiver is not the member that the sender takes it for. */
  | 'wrong-member'
  /** A format that the receiver does not read. */
  | 'format'
  /** What no version sends. */
  | 'malformed';

export interface Refusal {
  readonly reason: RefusalReason;
  /** For the log. */
  readonly detail: string;
}

/** In the trailers: what else than a status code a program may read. */
const reasonKey = 'xksd-refusal';

const statusCodes = {
  removed: status.PERMISSION_DENIED,
  'other-cluster': status.PERMISSION_DENIED,
  'foreign-cluster': status.PERMISSION_DENIED,
  unknown: status.PERMISSION_DENIED,
  'wrong-name': status.PERMISSION_DENIED,
  'wrong-member': status.FAILED_PRECONDITION,
  format: status.FAILED_PRECONDITION,
  malformed: status.INVALID_ARGUMENT,
} as const satisfies Record<RefusalReason, status>;

const isReason = (text: string): text is RefusalReason => Object.hasOwn(statusCodes, text);

export function refusalStatus({ reason, detail }: Refusal): StatusObject {
  const metadata = new Metadata();
  metadata.set(reasonKey, reason);
  return { code: statusCodes[reason], details: detail, metadata };
}

/** `null`: the call ended for another reason. */
export function refusalOf(ended: Pick<StatusObject, 'details' | 'metadata'>): Refusal | null {
  const [reason] = ended.metadata.get(reasonKey);
  return typeof reason === 'string' && isReason(reason) ? { reason, detail: ended.details } : null;
}
