import { z } from 'zod';
import { err, ok, type Result } from '../base/result.js';
import { ivLimits } from '../keystate/iv-budget.js';
import { limits } from '../keystate/types.js';
import { readJsonPayload } from '../ops/frames.js';
import type {
  Hello,
  HsmReply,
  HsmReplyValues,
  IvWants,
  MetricsReport,
  TokenStatus,
} from '../ops/state-link.js';

/**
 * What serving processes send, checked: a vendor's PKCS#11 module lives in their memory, so they are trusted with
 * requests but not with the replica's invariants.
 */

const text = (charactersMax: number) => z.string().max(charactersMax);
const hex = z.string().regex(/^([0-9a-f]{2})*$/);

const helloSchema: z.ZodType<Hello> = z.object({
  linkVersion: z.literal(1),
  pid: z.int().positive(),
  slot: z.int().positive().max(1_000),
  supervisorNonce: text(128),
  processId: text(128).min(1),
  startedAtMs: z.number(),
  linkedBefore: z.boolean(),
  version: text(64),
});

const tokenStatusSchema: z.ZodType<TokenStatus> = z.object({
  uri: text(4_096),
  label: text(256).nullable(),
  serial: text(256).nullable(),
  manufacturer: text(256).nullable(),
  model: text(256).nullable(),
  firmware: text(256).nullable(),
  state: z.enum(['ACTIVE', 'DEGRADED', 'UNAVAILABLE']),
  reason: text(4_096).nullable(),
  sessions: z.number(),
  stuckCells: z.number(),
});

const metricsReportSchema: z.ZodType<MetricsReport> = z.object({
  metrics: z.array(z.unknown()).max(2_000),
  credentialLastUsedMs: z.record(z.string(), z.number()),
  readiness: z.object({ ready: z.boolean(), reason: text(4_096) }),
  tokens: z.array(tokenStatusSchema).max(64),
});

const ahead = z.union([z.literal(0), z.int().min(ivLimits.blockMin).max(ivLimits.blockMax)]);
const usedIvs = z.object({
  objectId: hex.min(2).max(2 * limits.objectIdBytesMax),
  used: z.int().nonnegative().max(ivLimits.encryptionsMax),
});
const ivWantsSchema: z.ZodType<IvWants> = z.object({
  appliedIndex: z.int().nonnegative(),
  sequence: z.int().positive().optional(),
  later: z.array(usedIvs).max(ivLimits.reservationsPerCommandMax).optional(),
  reservations: z.array(usedIvs.extend({ ahead })).max(ivLimits.reservationsPerCommandMax),
});

const hsmReplySchema: z.ZodType<HsmReply> = z.discriminatedUnion('ok', [
  z.object({ id: z.int(), ok: z.literal(true), value: z.unknown() }),
  z.object({
    id: z.int(),
    ok: z.literal(false),
    code: z.enum([
      'token-unavailable',
      'no-such-token',
      'not-prepared',
      'object-not-found',
      'object-ambiguous',
      'object-unsuitable',
      'failed',
    ]),
    message: text(16_384),
  }),
]);

const witnessSchema = z.object({ iv: hex, ciphertext: hex, tag: hex });

const objectDescriptionSchema = z.object({
  objectId: hex,
  label: text(4_096),
  keyType: text(64),
  keyBits: z.int().nullable(),
  usage: z.array(text(32)).max(16),
  sensitive: z.boolean().nullable(),
  extractable: z.boolean().nullable(),
  checkValue: hex.nullable(),
});

const keyOnTokenSchema = z.object({
  token: text(4_096),
  holds: z.enum(['yes', 'no', 'another', 'unknown']),
  reason: text(16_384).nullable(),
});

const preparedKeySchema = z.object({ objectId: hex, witness: witnessSchema });

const hsmReplyValueSchemas: { readonly [Op in keyof HsmReplyValues]: z.ZodType<HsmReplyValues[Op]> } = {
  'list-objects': z.object({
    tokens: z.array(
      z.object({
        token: tokenStatusSchema,
        objects: z.array(objectDescriptionSchema).nullable(),
        unlisted: text(16_384).nullable(),
      }),
    ),
  }),
  'prepare-token': z.object({
    token: tokenStatusSchema,
    serial: text(256),
    label: text(256),
    testKey: preparedKeySchema,
    wrappingKey: preparedKeySchema,
    wrappedSecret: z.object({ iv: hex, ciphertext: hex, tag: hex, checkValue: hex }).nullable(),
    created: z.array(text(4_096)).max(64),
  }),
  'generate-key': z.object({ object: objectDescriptionSchema, witness: witnessSchema }),
  'inspect-key': z.object({
    object: objectDescriptionSchema,
    witness: witnessSchema.nullable(),
    tokens: z.array(keyOnTokenSchema).max(64),
  }),
  'test-tokens': z.object({
    tokens: z
      .array(
        z.object({
          token: tokenStatusSchema,
          outcome: z.enum(['passed', 'failed', 'no-test-key']),
          tookMs: z.number().nonnegative(),
        }),
      )
      .max(64),
  }),
  'probe-tokens': z.object({
    tokens: z
      .array(
        z.object({
          token: tokenStatusSchema,
          stated: text(64),
          pinned: text(4_096).nullable(),
          found: text(4_096).nullable(),
          verdict: z.enum(['agrees', 'accepted', 'differs', 'refused', 'unknown']),
          reason: text(4_096).nullable(),
          cases: z.array(z.object({ what: text(1_024), answer: text(4_096) })).max(64),
        }),
      )
      .max(64),
  }),
  'locate-key': z.object({ tokens: z.array(keyOnTokenSchema).max(64) }),
  'mint-credential': z.object({
    // X-A2.
    accessKeyId: z.string().regex(/^[A-Z2-7]{20,30}$/),
    secretAccessKey: z.string().regex(/^[A-Za-z0-9/+=]{43,64}$/),
    sealed: z.object({ nonce: hex, ciphertext: hex, tag: hex }),
  }),
  'retry-login': z.object({ tokens: z.array(tokenStatusSchema).max(64) }),
};

function check<T>(schema: z.ZodType<T>, value: unknown, what: string): Result<T, string> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  // Names the fields only: what is in them may be a secret.
  const fields = parsed.error.issues.map((issue) => issue.path.join('.') || '(all of it)');
  return err(`malformed ${what}: ${fields.join(', ')}`);
}

const parser =
  <T>(schema: z.ZodType<T>, what: string) =>
  (payload: Buffer): Result<T, string> =>
    check(schema, readJsonPayload(payload), what);

export const parseHello = parser(helloSchema, 'hello');
export const parseMetricsReport = parser(metricsReportSchema, 'metrics report');
export const parseIvWants = parser(ivWantsSchema, 'reservation of IVs');
export const parseHsmReply = parser(hsmReplySchema, 'HSM reply');

export function parseHsmReplyValue<Op extends keyof HsmReplyValues>(
  op: Op,
  value: unknown,
): Result<HsmReplyValues[Op], string> {
  return check(hsmReplyValueSchemas[op], value, `reply to ${op}`);
}
