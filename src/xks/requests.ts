import { decodeBase64 } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import { type XksError, xksError } from './errors.js';
import { type JsonObject, parseJsonObject } from './json.js';
import type { XksOperation } from './operations.js';
import { parseRequestMetadata, type RequestMetadata } from './request-metadata.js';

/** What we accept beyond the specification's minimum (X-E1: 4,300 and 8,192 bytes); more is 501 (X-E5). */
export const requestLimits = {
  /** Of plaintext and so of ciphertext. */
  plaintextBytesMax: 16_384,
  aadBytesMax: 16_384,
  /** X-E2. */
  ciphertextMetadataBytesMax: 20,
} as const;

const tagBytes = 16;

export interface MetadataOnlyRequest {
  readonly requestMetadata: RequestMetadata;
}

/** The byte strings belong to whoever gets them. */
export interface EncryptRequest {
  readonly requestMetadata: RequestMetadata;
  /** May be empty. To be wiped after use. */
  readonly plaintext: Uint8Array;
  /** Empty when absent. */
  readonly aad: Uint8Array;
  /** `ciphertextDataIntegrityValueAlgorithm` was given: the answer holds a ciphertextDataIntegrityValue. */
  readonly integrityAsked: boolean;
}

export interface DecryptRequest {
  readonly requestMetadata: RequestMetadata;
  readonly ciphertext: Uint8Array;
  /** 12 or 16 bytes. */
  readonly iv: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
  /** Empty when absent. */
  readonly aad: Uint8Array;
  /** At most 20 bytes; `null` when absent. */
  readonly ciphertextMetadata: Uint8Array | null;
}

/** Told of the metadata as soon as they are known, so that a request refused for another field is logged with them. */
type MetadataListener = (requestMetadata: RequestMetadata) => void;

/** X-H1. */
export function parseGetHealthStatusRequest(
  body: Uint8Array,
  onMetadata?: MetadataListener,
): Result<MetadataOnlyRequest, XksError> {
  return parseMetadataOnly(body, 'GetHealthStatus', onMetadata);
}

export function parseGetKeyMetadataRequest(
  body: Uint8Array,
  onMetadata?: MetadataListener,
): Result<MetadataOnlyRequest, XksError> {
  return parseMetadataOnly(body, 'GetKeyMetadata', onMetadata);
}

/** X-E1. */
export function parseEncryptRequest(
  body: Uint8Array,
  onMetadata?: MetadataListener,
): Result<EncryptRequest, XksError> {
  const common = parseCommon(body, 'Encrypt', onMetadata);
  if (!common.ok) return common;
  const { fields, requestMetadata } = common.value;
  const algorithmFault = encryptionAlgorithmFault(fields);
  if (algorithmFault !== null) return err(algorithmFault);
  const cdivAlgorithm = fields['ciphertextDataIntegrityValueAlgorithm'] ?? null;
  if (cdivAlgorithm !== null && cdivAlgorithm !== 'SHA_256') {
    return invalid('ciphertextDataIntegrityValueAlgorithm is not SHA_256.');
  }
  const aad = optionalBytes(fields, 'additionalAuthenticatedData', requestLimits.aadBytesMax);
  if (!aad.ok) return aad;
  const plaintext = requiredBytes(fields, 'plaintext', requestLimits.plaintextBytesMax);
  if (!plaintext.ok) return plaintext;
  return ok({
    requestMetadata,
    plaintext: plaintext.value,
    aad: aad.value ?? new Uint8Array(0),
    integrityAsked: cdivAlgorithm !== null,
  });
}

/** X-D1. Wrong lengths are the ciphertext's fault, not the request's (X-D2). */
export function parseDecryptRequest(
  body: Uint8Array,
  onMetadata?: MetadataListener,
): Result<DecryptRequest, XksError> {
  const common = parseCommon(body, 'Decrypt', onMetadata);
  if (!common.ok) return common;
  const { fields, requestMetadata } = common.value;
  const algorithmFault = encryptionAlgorithmFault(fields);
  if (algorithmFault !== null) return err(algorithmFault);
  const ciphertext = requiredBytes(fields, 'ciphertext', requestLimits.plaintextBytesMax);
  if (!ciphertext.ok) return ciphertext;
  const iv = requiredBytes(fields, 'initializationVector', null);
  if (!iv.ok) return iv;
  const tag = requiredBytes(fields, 'authenticationTag', null);
  if (!tag.ok) return tag;
  const ciphertextMetadata = optionalBytes(fields, 'ciphertextMetadata', null);
  if (!ciphertextMetadata.ok) return ciphertextMetadata;
  const aad = optionalBytes(fields, 'additionalAuthenticatedData', requestLimits.aadBytesMax);
  if (!aad.ok) return aad;
  if (iv.value.byteLength !== 12 && iv.value.byteLength !== 16) {
    return invalidCiphertext('initializationVector has neither 12 nor 16 bytes.');
  }
  if (tag.value.byteLength !== tagBytes) return invalidCiphertext('authenticationTag has not 16 bytes.');
  if ((ciphertextMetadata.value?.byteLength ?? 0) > requestLimits.ciphertextMetadataBytesMax) {
    return invalidCiphertext('ciphertextMetadata has more than 20 bytes.');
  }
  return ok({
    requestMetadata,
    ciphertext: ciphertext.value,
    iv: iv.value,
    tag: tag.value,
    aad: aad.value ?? new Uint8Array(0),
    ciphertextMetadata: ciphertextMetadata.value,
  });
}

function parseMetadataOnly(
  body: Uint8Array,
  operation: XksOperation,
  onMetadata?: MetadataListener,
): Result<MetadataOnlyRequest, XksError> {
  const common = parseCommon(body, operation, onMetadata);
  return common.ok ? ok({ requestMetadata: common.value.requestMetadata }) : common;
}

function parseCommon(
  body: Uint8Array,
  operation: XksOperation,
  onMetadata?: MetadataListener,
): Result<{ readonly fields: JsonObject; readonly requestMetadata: RequestMetadata }, XksError> {
  const fields = parseJsonObject(body);
  if (!fields.ok) return invalid(fields.error);
  const requestMetadata = parseRequestMetadata(fields.value, operation);
  if (!requestMetadata.ok) return requestMetadata;
  onMetadata?.(requestMetadata.value);
  return ok({ fields: fields.value, requestMetadata: requestMetadata.value });
}

function encryptionAlgorithmFault(fields: JsonObject): XksError | null {
  return fields['encryptionAlgorithm'] === 'AES_GCM'
    ? null
    : xksError('ValidationException', 'encryptionAlgorithm is missing or not AES_GCM.');
}

function requiredBytes(
  fields: JsonObject,
  name: string,
  bytesMax: number | null,
): Result<Uint8Array, XksError> {
  const bytes = optionalBytes(fields, name, bytesMax);
  if (!bytes.ok) return bytes;
  return bytes.value === null ? invalid(`${name} is missing.`) : ok(bytes.value);
}

/** @param bytesMax `null`: the caller judges the length. */
function optionalBytes(
  fields: JsonObject,
  name: string,
  bytesMax: number | null,
): Result<Uint8Array | null, XksError> {
  // `null` is absent, as in requestMetadata.
  const text = fields[name] ?? null;
  if (text === null) return ok(null);
  if (typeof text !== 'string') return invalid(`${name} is not a string.`);
  const bytes = decodeBase64(text);
  if (bytes === null) return invalid(`${name} is not Base64.`);
  if (bytesMax !== null && bytes.byteLength > bytesMax) {
    return err(xksError('UnsupportedOperationException', `${name} has more than ${bytesMax} bytes.`));
  }
  return ok(bytes);
}

function invalid(errorMessage: string): Result<never, XksError> {
  return err(xksError('ValidationException', errorMessage));
}

function invalidCiphertext(errorMessage: string): Result<never, XksError> {
  return err(xksError('InvalidCiphertextException', errorMessage));
}
