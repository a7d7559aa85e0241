import { encodeBase64, writeBase64 } from '../base/bytes.js';
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

/** X-E2. */
export function encryptBody(response: EncryptResponse): Buffer {
  const { ciphertext, ciphertextMetadata, iv, tag, integrityValue } = response;
  return Buffer.from(
    JSON.stringify({
      ciphertext: encodeBase64(ciphertext),
      ...(ciphertextMetadata !== null && { ciphertextMetadata: encodeBase64(ciphertextMetadata) }),
      initializationVector: encodeBase64(iv),
      authenticationTag: encodeBase64(tag),
      ...(integrityValue !== null && { ciphertextDataIntegrityValue: encodeBase64(integrityValue) }),
    }),
  );
}

const plaintextBefore = Buffer.from('{"plaintext":"');
const plaintextAfter = Buffer.from('"}');

/**
 * X-D2. The plaintext goes from bytes to bytes without ever being a string, so that `wipe` on the given bytes and on
 * this buffer, once it is sent, leaves no copy of ours behind. (Copies inside TLS and the kernel are out of reach.)
 */
export function decryptBody(plaintext: Uint8Array): Buffer {
  const encodedLength = 4 * Math.ceil(plaintext.byteLength / 3);
  // Not from Node's shared pool: this memory is the caller's alone to wipe.
  const body = Buffer.allocUnsafeSlow(plaintextBefore.length + encodedLength + plaintextAfter.length);
  plaintextBefore.copy(body);
  writeBase64(body, plaintextBefore.length, plaintext);
  plaintextAfter.copy(body, plaintextBefore.length + encodedLength);
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
