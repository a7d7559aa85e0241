import { type ServiceError, status } from '@grpc/grpc-js';
import { err, ok, type Result } from '../../base/result.js';
import * as wire from './generated/peer.js';
import { callDeadlineMsMax } from './limits.js';
import type { PeerChannel } from './peer-channel.js';
import { type Refusal, refusalOf } from './refusal.js';

export type CallFailure =
  /** It did nothing there: no such member, no connection, too large, too many, or refused. */
  | { readonly kind: 'not-asked'; readonly detail: string; readonly refusal: Refusal | null }
  /** It may have done what it was asked, or may still do it. */
  | { readonly kind: 'no-answer'; readonly detail: string }
  /** The member answered that it failed. */
  | { readonly kind: 'failed'; readonly detail: string };

/** Sends one request and parses the JSON of its answer. Never rejects. */
export async function askForJson(
  channel: PeerChannel,
  method: 'call' | 'join',
  bytes: Buffer,
  deadlineMs: number,
): Promise<Result<unknown, CallFailure>> {
  const answered = await new Promise<Result<Buffer, CallFailure>>((resolve) => {
    channel.request(method, bytes, Math.min(deadlineMs, callDeadlineMsMax), (error, answer) =>
      resolve(answer !== undefined && error === null ? ok(answer) : err(failure(error))),
    );
  });
  if (!answered.ok) return answered;
  try {
    const type = method === 'call' ? wire.CallResponse : wire.JoinResponse;
    return ok(JSON.parse(type.decode(answered.value).json));
  } catch {
    return err({ kind: 'failed', detail: 'the answer is malformed' });
  }
}

function failure(error: ServiceError | null): CallFailure {
  if (error === null) return { kind: 'no-answer', detail: 'no answer' };
  const { code, details: detail } = error;
  const refusal = refusalOf(error);
  if (refusal !== null) return { kind: 'not-asked', detail, refusal };
  switch (code) {
    case status.RESOURCE_EXHAUSTED:
    case status.UNIMPLEMENTED:
      return { kind: 'not-asked', detail, refusal: null };
    case status.UNKNOWN:
    case status.OUT_OF_RANGE:
      return { kind: 'failed', detail };
    default:
      return { kind: 'no-answer', detail };
  }
}
