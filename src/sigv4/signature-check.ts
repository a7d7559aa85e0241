import { equalInConstantTime } from '../base/bytes.js';
import { hashCanonicalRequest } from './canonical-request.js';
import { hmacSha256 } from './signing-key.js';

/**
 * Checks whether `signature` (64 lower-case hexadecimal digits) is that of a request under `signingKey` (32 bytes): the
 * HMAC-SHA-256 of `toSignHead ‖ hex(h)`, where h is SHA-256(`canonicalHead ‖ hex(SHA-256(body))`). Takes time that does
 * not depend on where the two differ.
 *
 * All the hashing that an authentic request costs is in here, so that the composition root can pass an implementation
 * that does it in one call.
 *
 * @returns `null` when it is, else hex(h), for another try with another key.
 */
export type SignatureCheck = (
  signingKey: Uint8Array,
  toSignHead: string,
  canonicalHead: string,
  body: Uint8Array,
  signature: string,
) => string | null;

/** By Node's own cryptography. */
export const checkSignature: SignatureCheck = (signingKey, toSignHead, canonicalHead, body, signature) => {
  const hashedRequest = hashCanonicalRequest(canonicalHead, body);
  const mac = hmacSha256(signingKey, `${toSignHead}${hashedRequest}`);
  return isSignature(signature, mac) ? null : hashedRequest;
};

/** Whether `signature` (64 hexadecimal digits) is this MAC (32 bytes), in constant time. */
export function isSignature(signature: string, mac: Uint8Array): boolean {
  return equalInConstantTime(mac, Buffer.from(signature, 'hex'));
}
