import { encodeBase64, wipe } from '../base/bytes.js';
import type { RandomSource } from '../base/random.js';

const accessKeyIdAlphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
const accessKeyIdCharacters = 26;
/** 288 bits, and a length that Base64 writes without padding. */
const secretBytes = 36;

/** A new access key id: 26 of `[A-Z2-7]`, 130 random bits. It has nothing to do with the secret (X-A2). */
export function mintAccessKeyId(random: RandomSource): string {
  let accessKeyId = '';
  for (const byte of random.bytes(accessKeyIdCharacters)) {
    // 32 letters divide 256, so each is as likely as the next.
    accessKeyId += accessKeyIdAlphabet.charAt(byte % accessKeyIdAlphabet.length);
  }
  return accessKeyId;
}

/** A new secret access key: 48 of `[A-Za-z0-9/+]` holding 288 random bits (X-A2). */
export function mintSecretAccessKey(random: RandomSource): string {
  const bytes = random.bytes(secretBytes);
  const secretAccessKey = encodeBase64(bytes);
  wipe(bytes);
  return secretAccessKey;
}
