import { ok, type Result } from '../../base/result.js';
import type { XksError } from '../../xks/errors.js';
import { keyMetadataBody } from '../../xks/responses.js';
import { findKey, type Known } from '../key-lookup.js';

/** GetKeyMetadata (X-K1), from key state alone. A disabled key answers too (X-K2). */
export function getKeyMetadata(
  known: Known,
  keyStore: string,
  externalKeyId: string,
): Result<Uint8Array, XksError> {
  const key = findKey(known, keyStore, externalKeyId);
  if (!key.ok) return key;
  return ok(keyMetadataBody({ keyUsage: key.value.usage, keyStatus: key.value.status }));
}
