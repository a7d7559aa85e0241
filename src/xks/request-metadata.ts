import { isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { type XksError, xksError } from './errors.js';
import type { JsonObject } from './json.js';
import type { XksOperation } from './operations.js';

/** Who asks KMS for what, as KMS tells it (X-M1). Nothing in it is checked beyond its shape; policies may read it. */
export interface RequestMetadata {
  /** Opaque; the same as in CloudTrail. */
  readonly kmsRequestId: string;
  /** May be one that nobody has heard of (X-M2). */
  readonly kmsOperation: string;
  readonly awsPrincipalArn: string | null;
  readonly kmsKeyArn: string | null;
  readonly awsSourceVpc: string | null;
  readonly awsSourceVpce: string | null;
  readonly kmsViaService: string | null;
  /** Fields that we do not know (X-M2): the scalar ones among the first few, for the log. */
  readonly extras: readonly (readonly [name: string, value: string | number | boolean])[];
}

const requestMetadataLimits = {
  /** X-M1. */
  arnCharactersMax: 2_048,
  /** Of any one value in the log. */
  loggedCharactersMax: 2_048,
  extrasMax: 16,
  extraNameCharactersMax: 64,
} as const;

/** The fields that we know (X-M1), in the order in which they are logged. */
export const requestMetadataNames = [
  'kmsRequestId',
  'kmsOperation',
  'awsPrincipalArn',
  'kmsKeyArn',
  'awsSourceVpc',
  'awsSourceVpce',
  'kmsViaService',
] as const;

type KnownField = (typeof requestMetadataNames)[number];

const arnFields: ReadonlySet<KnownField> = new Set(['awsPrincipalArn', 'kmsKeyArn']);

/** X-M1, X-H1. */
const requiredFields: Readonly<Record<XksOperation, ReadonlySet<KnownField>>> = {
  GetHealthStatus: new Set(['kmsRequestId', 'kmsOperation']),
  GetKeyMetadata: new Set(['kmsRequestId', 'kmsOperation', 'awsPrincipalArn']),
  Encrypt: new Set(['kmsRequestId', 'kmsOperation', 'awsPrincipalArn', 'kmsKeyArn']),
  Decrypt: new Set(['kmsRequestId', 'kmsOperation', 'awsPrincipalArn', 'kmsKeyArn']),
};

/** Takes `requestMetadata` out of a request's body. */
export function parseRequestMetadata(
  body: JsonObject,
  operation: XksOperation,
): Result<RequestMetadata, XksError> {
  const given = body['requestMetadata'];
  if (!isJsonObject(given)) {
    return err(xksError('ValidationException', 'requestMetadata is missing or not an object.'));
  }
  const fault = faultOf(given, requiredFields[operation]);
  if (fault !== null) return err(fault);
  const { kmsRequestId, kmsOperation } = given;
  if (typeof kmsRequestId !== 'string' || typeof kmsOperation !== 'string') {
    return err(xksError('ValidationException', 'requestMetadata is incomplete.'));
  }
  return ok({
    // Every field of every request, and by its name: V8 makes one shape of them, and all code that reads it quick.
    kmsRequestId,
    kmsOperation,
    awsPrincipalArn: textOrNull(given['awsPrincipalArn']),
    kmsKeyArn: textOrNull(given['kmsKeyArn']),
    awsSourceVpc: textOrNull(given['awsSourceVpc']),
    awsSourceVpce: textOrNull(given['awsSourceVpce']),
    kmsViaService: textOrNull(given['kmsViaService']),
    extras: extrasOf(given),
  });
}

const textOrNull = (value: unknown): string | null => (typeof value === 'string' ? value : null);

function faultOf(given: JsonObject, required: ReadonlySet<KnownField>): XksError | null {
  for (const name of requestMetadataNames) {
    const value = given[name];
    if (typeof value === 'string') {
      if (value.length > requestMetadataLimits.arnCharactersMax && arnFields.has(name)) {
        return xksError('UnsupportedOperationException', `${name} is longer than 2,048 characters.`);
      }
    } else if (required.has(name)) {
      return xksError('ValidationException', `requestMetadata.${name} is missing or not a string.`);
    } else if (value !== undefined && value !== null) {
      // An optional field that is null is absent: nothing in here is ours to judge (X-M2).
      return xksError('ValidationException', `requestMetadata.${name} is not a string.`);
    }
  }
  return null;
}

function extrasOf(given: JsonObject): (readonly [string, string | number | boolean])[] {
  const extras: (readonly [string, string | number | boolean])[] = [];
  for (const name of Object.keys(given)) {
    if (extras.length === requestMetadataLimits.extrasMax) break;
    if ((requestMetadataNames as readonly string[]).includes(name)) continue;
    if (name.length > requestMetadataLimits.extraNameCharactersMax) continue;
    const value = given[name];
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
      extras.push([name, value]);
    }
  }
  return extras;
}

/** A value as it is logged: cut where it is long. */
export const loggedText = (value: string): string =>
  value.length > requestMetadataLimits.loggedCharactersMax
    ? value.slice(0, requestMetadataLimits.loggedCharactersMax)
    : value;

/** All of the metadata for the log line (X-M2, X-L2), long values cut. */
export function requestMetadataLogFields(
  metadata: RequestMetadata,
): Readonly<Record<string, string | number | boolean>> {
  const { extras, ...known } = metadata;
  return Object.fromEntries(
    [...Object.entries(known), ...extras].flatMap(([name, value]) =>
      value === null ? [] : [[name, typeof value === 'string' ? loggedText(value) : value]],
    ),
  );
}
