import { z } from 'zod';
import { err, ok, type Result } from '../base/result.js';
import { parseRequestId } from '../keystate/request-id.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';

/** What any node takes and the leader decides (admin-cluster.ts). Nothing else is done for other nodes. */
const forwardedCommands: ReadonlySet<string> = new Set([
  'cluster.promote',
  'cluster.remove',
  'cluster.transfer',
  'cluster.upgrade',
  'settings.set',
]);

const forwardedSchema = z.strictObject({
  uid: z.int().nonnegative().nullable(),
  requestId: z.string().refine((text) => parseRequestId(text) !== null),
  body: z.unknown(),
});

export interface ForwardedCommand {
  readonly body: unknown;
  /** Who asked, and on which node. */
  readonly caller: AdminCaller;
}

/** A command as another member handed it on. @param from name of that member. */
export function readForwarded(
  from: string,
  command: string,
  content: unknown,
): Result<ForwardedCommand, AdminError> {
  if (!forwardedCommands.has(command)) {
    return err({ code: 'bad-request', message: `${command} is not done for other nodes` });
  }
  const forwarded = forwardedSchema.safeParse(content);
  if (!forwarded.success) return err({ code: 'bad-request', message: 'a malformed forwarded command' });
  const { uid, requestId, body } = forwarded.data;
  return ok({ body, caller: { uid: null, by: `uid=${uid ?? 'unknown'} on ${from}`, requestId } });
}
