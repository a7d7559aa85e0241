import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import { equalInConstantTime } from '../base/bytes.js';
import { invariant } from '../base/guards.js';
import type { RandomSource } from '../base/random.js';
import type { SealedBytes } from '../keystate/types.js';

export const clusterSecretBytes = 32;

const nonceBytes = 12;
const tagBytes = 16;
const algorithm = 'aes-256-gcm';

/** Fields of an AAD, each behind its length (16 bits): no two sequences of fields give the same bytes. */
function framed(...fields: readonly string[]): Buffer {
  const parts: Buffer[] = [];
  for (const field of fields) {
    const bytes = Buffer.from(field, 'utf8');
    invariant(bytes.byteLength <= 0xffff, 'a field of an AAD has at most 65,535 bytes');
    const length = Buffer.alloc(2);
    length.writeUInt16BE(bytes.byteLength);
    parts.push(length, bytes);
  }
  return Buffer.concat(parts);
}

/**
 * Seals a SigV4 secret access key under the cluster secret with AES-256-GCM, bound to its key store and its access key
 * id. Nonces are random: 2³² of them under one key (NIST SP 800-38D §8.3) are far beyond the credentials there can be.
 */
export function sealSecret(
  clusterSecret: Uint8Array,
  owner: { readonly keyStore: string; readonly accessKeyId: string },
  secretAccessKey: Uint8Array,
  random: RandomSource,
): SealedBytes {
  const nonce = random.bytes(nonceBytes);
  const cipher = createCipheriv(algorithm, clusterSecret, nonce);
  cipher.setAAD(secretAad(owner));
  const ciphertext = Buffer.concat([cipher.update(secretAccessKey), cipher.final()]);
  return { nonce, ciphertext, tag: cipher.getAuthTag() };
}

/** The secret access key's bytes, the caller's to wipe; `null` when they were not sealed like this. */
export function openSecret(
  clusterSecret: Uint8Array,
  owner: { readonly keyStore: string; readonly accessKeyId: string },
  sealed: SealedBytes,
): Uint8Array | null {
  if (sealed.nonce.byteLength !== nonceBytes || sealed.tag.byteLength !== tagBytes) return null;
  const decipher = createDecipheriv(algorithm, clusterSecret, sealed.nonce, { authTagLength: tagBytes });
  decipher.setAAD(secretAad(owner));
  decipher.setAuthTag(sealed.tag);
  const secretAccessKey = decipher.update(sealed.ciphertext);
  try {
    decipher.final();
    return secretAccessKey;
  } catch {
    secretAccessKey.fill(0);
    return null;
  }
}

const secretAad = (owner: { readonly keyStore: string; readonly accessKeyId: string }): Buffer =>
  framed('xksd sealed secret access key 1', owner.keyStore, owner.accessKeyId);

/** Tells the right cluster secret from another one, and nothing else about it: 32 bytes. */
export function clusterSecretCheckValue(clusterSecret: Uint8Array): Uint8Array {
  return createHmac('sha256', clusterSecret).update('xksd cluster secret check value 1').digest();
}

export function isClusterSecret(candidate: Uint8Array, checkValue: Uint8Array): boolean {
  return (
    candidate.byteLength === clusterSecretBytes &&
    equalInConstantTime(clusterSecretCheckValue(candidate), checkValue)
  );
}

/**
 * The AAD under which a token's wrapping key encrypts the cluster secret. Like the witness's it begins with a length
 * (ff ff) that it then falls short of, so no framed XKS request can form it (X-E3).
 */
export function clusterSecretAad(tokenSerial: string): Uint8Array {
  return Buffer.concat([Buffer.from([0xff, 0xff]), framed('xksd cluster secret 1', tokenSerial)]);
}
