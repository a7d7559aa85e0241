import { z } from 'zod';
import { err, ok, type Result } from '../base/result.js';
import { addressProblem } from '../keystate/cluster-checks.js';

/** What `xksctl cluster add` gives to the operator, and `xksctl cluster join` takes: good for one member, once. */
export interface JoinToken {
  readonly clusterId: string;
  readonly memberId: string;
  /** Name of the node that may use it: also the name in its certificate. */
  readonly nodeName: string;
  /** 32 bytes, hexadecimal; key state holds its SHA-256 alone. */
  readonly secret: string;
  /** Members to ask, at the time of adding. */
  readonly peers: readonly { readonly memberId: string; readonly name: string; readonly address: string }[];
}

const prefix = 'xksd-join-1.';
const charactersMax = 16 * 1024;

const name = z.string().min(1).max(64);
const address = z.string().refine((text) => addressProblem(text) === null);
const schema: z.ZodType<JoinToken> = z.strictObject({
  clusterId: name,
  memberId: name,
  nodeName: name,
  secret: z.string().regex(/^[0-9a-f]{64}$/),
  peers: z
    .array(z.strictObject({ memberId: name, name, address }))
    .min(1)
    .max(16),
});

export const encodeJoinToken = (token: JoinToken): string =>
  `${prefix}${Buffer.from(JSON.stringify(token), 'utf8').toString('base64url')}`;

/** What is wrong is said without repeating the token: it holds a secret. */
export function parseJoinToken(text: string): Result<JoinToken, string> {
  const trimmed = text.trim();
  if (!trimmed.startsWith(prefix)) {
    return err(`a join token starts with "${prefix}": take it as \`xksctl cluster add\` printed it`);
  }
  const damaged = err('the join token is damaged or cut short: take it as `xksctl cluster add` printed it');
  if (trimmed.length > charactersMax) return damaged;
  try {
    const json: unknown = JSON.parse(Buffer.from(trimmed.slice(prefix.length), 'base64url').toString('utf8'));
    const parsed = schema.safeParse(json);
    return parsed.success ? ok(parsed.data) : damaged;
  } catch {
    return damaged;
  }
}
