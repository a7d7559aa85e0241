import { isJsonObject } from '../../src/base/guards.js';

const iv = Buffer.alloc(12).toString('base64');
const tag = Buffer.alloc(16).toString('base64');
const cdiv = Buffer.alloc(32).toString('base64');

/** What comes in as plaintext goes out as ciphertext and back: an answer of the right shape and size, for no work. */
export function jsonEcho(body: Uint8Array): Buffer {
  const message: unknown = JSON.parse(Buffer.from(body).toString('utf8'));
  const fields = isJsonObject(message) ? message : {};
  const answer =
    'plaintext' in fields
      ? {
          ciphertext: fields['plaintext'],
          ciphertextMetadata: 'AQAAAAE=',
          initializationVector: iv,
          authenticationTag: tag,
          ciphertextDataIntegrityValue: cdiv,
        }
      : { plaintext: fields['ciphertext'] };
  return Buffer.from(JSON.stringify(answer));
}
