import { base64Length, encodeBase64, writeBase64 } from '../base/bytes.js';
import { invariant } from '../base/guards.js';

export interface KeyMetadataResponse {
  /** At most 10 (X-K1). */
  readonly keyUsage: readonly string[];
  readonly keyStatus: 'ENABLED' | 'DISABLED';
}

/** X-K1. */
export function keyMetadataBody(response: KeyMetadataResponse): Buffer {
  invariant(response.keyUsage.length <= 10, 'a key has at most 10 usages');
  const { keyUsage, keyStatus } = response;
  return Buffer.from(JSON.stringify({ keySpec: 'AES_256', keyUsage, keyStatus }));
}

export interface EncryptResponse {
  readonly ciphertext: Uint8Array;
  /** At most 20 bytes; `null` for none. */
  readonly ciphertextMetadata: Uint8Array | null;
  /** 12 or 16 bytes. */
  readonly iv: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
  /** 32 bytes, `null` when it was not asked for. */
  readonly integrityValue: Uint8Array | null;
}

const ciphertextBefore = Buffer.from('{"ciphertext":"');
const metadataBefore = Buffer.from('","ciphertextMetadata":"');
const ivBefore = Buffer.from('","initializationVector":"');
const tagBefore = Buffer.from('","authenticationTag":"');
const integrityValueBefore = Buffer.from('","ciphertextDataIntegrityValue":"');
const textAfter = Buffer.from('"}');

/** X-E2. From bytes to bytes: strings and an object for JSON would cost several times as much. */
export function encryptBody(response: EncryptResponse): Buffer {
  const { ciphertext, ciphertextMetadata, iv, tag, integrityValue } = response;
  const fieldLength = (before: Buffer, value: Uint8Array | null): number =>
    value === null ? 0 : before.length + base64Length(value.byteLength);
  const body = Buffer.allocUnsafe(
    fieldLength(ciphertextBefore, ciphertext) +
      fieldLength(metadataBefore, ciphertextMetadata) +
      fieldLength(ivBefore, iv) +
      fieldLength(tagBefore, tag) +
      fieldLength(integrityValueBefore, integrityValue) +
      textAfter.length,
  );
  let at = writeCiphertext(body, ciphertext);
  at = writeField(body, at, metadataBefore, ciphertextMetadata);
  at = writeField(body, at, ivBefore, iv);
  at = writeField(body, at, tagBefore, tag);
  at = writeField(body, at, integrityValueBefore, integrityValue);
  body.set(textAfter, at);
  return body;
}

/** From so many bytes on, Node's encoder makes up for the string that it goes through. */
const longBytes = 96;

/** No secret, unlike a plaintext: it may be a string. */
function writeCiphertext(body: Buffer, ciphertext: Uint8Array): number {
  if (ciphertext.byteLength < longBytes) return writeField(body, 0, ciphertextBefore, ciphertext);
  body.set(ciphertextBefore);
  const offset = ciphertextBefore.length;
  return offset + body.write(encodeBase64(ciphertext), offset, 'latin1');
}

/** A field's beginning and its value in Base64; nothing for `null`. @returns the offset behind it. */
function writeField(body: Buffer, offset: number, before: Buffer, value: Uint8Array | null): number {
  if (value === null) return offset;
  body.set(before, offset);
  return writeBase64(body, offset + before.length, value);
}

const plaintextBefore = Buffer.from('{"plaintext":"');

/**
 * X-D2. The plaintext goes from bytes to bytes without ever being a string, so that `wipe` on the given bytes and on
 * this buffer, once it is sent, leaves no copy of ours behind. (Copies inside TLS and the kernel are out of reach.)
 */
export function decryptBody(plaintext: Uint8Array): Buffer {
  const length = plaintextBefore.length + base64Length(plaintext.byteLength) + textAfter.length;
  // Not from Node's shared pool: this memory is the caller's alone to wipe.
  const body = Buffer.allocUnsafeSlow(length);
  body.set(textAfter, writeField(body, 0, plaintextBefore, plaintext));
  return body;
}

export interface EkmFleetDetail {
  readonly id: string;
  readonly model: string;
  readonly healthStatus: 'ACTIVE' | 'DEGRADED' | 'UNAVAILABLE';
}

export interface HealthStatusResponse {
  /** Greater than 0. */
  readonly xksProxyFleetSize: number;
  readonly xksProxyVendor: string;
  /** Name and version. */
  readonly xksProxyModel: string;
  readonly ekmVendor: string;
  /** 1–10. */
  readonly ekmFleetDetails: readonly EkmFleetDetail[];
}

/** X-H2. */
export function healthStatusBody(response: HealthStatusResponse): Buffer {
  const { xksProxyFleetSize, xksProxyVendor, xksProxyModel, ekmVendor, ekmFleetDetails } = response;
  invariant(Number.isInteger(xksProxyFleetSize) && xksProxyFleetSize > 0, 'a fleet has a proxy');
  invariant(ekmFleetDetails.length >= 1 && ekmFleetDetails.length <= 10, '1 to 10 key managers are listed');
  return Buffer.from(
    JSON.stringify({
      xksProxyFleetSize,
      xksProxyVendor,
      xksProxyModel,
      ekmVendor,
      ekmFleetDetails: ekmFleetDetails.map(({ id, model, healthStatus }) => ({ id, model, healthStatus })),
    }),
  );
}
