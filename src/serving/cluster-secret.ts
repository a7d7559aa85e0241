import { decodeHex, wipe } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import { type HsmCrypto, type HsmFailure, type KeyObject, objectId } from '../hsm/types.js';
import type { PreparedToken, SealedBytes } from '../keystate/types.js';
import { clusterSecretAad, clusterSecretCheckValue, isClusterSecret } from './sealing.js';

/** The object behind a prepared token's test or wrapping key. */
export function preparedKeyObject(key: PreparedToken['testKey']): KeyObject {
  const { nonce, ciphertext, tag } = key.witness;
  return { objectId: objectId(key.objectId), witness: { iv: nonce, ciphertext, tag } };
}

/** Encrypts the cluster secret under a token's wrapping key. `deadlineMs` is monotonic. */
export async function wrapClusterSecret(
  crypto: HsmCrypto,
  wrappingKey: KeyObject,
  tokenSerial: string,
  clusterSecret: Uint8Array,
  deadlineMs: number,
): Promise<Result<{ readonly wrapped: SealedBytes; readonly checkValue: Uint8Array }, HsmFailure>> {
  const encrypted = await crypto.encrypt(
    {
      key: wrappingKey,
      plaintext: clusterSecret,
      gcmAad: clusterSecretAad(tokenSerial),
      integrityPrefix: null,
      verify: true,
    },
    deadlineMs,
  );
  if (!encrypted.ok) return encrypted;
  const { iv, ciphertext, tag } = encrypted.value;
  return ok({ wrapped: { nonce: iv, ciphertext, tag }, checkValue: clusterSecretCheckValue(clusterSecret) });
}

/** Has the token decrypt the cluster secret, which is the caller's to wipe. The error is for the operator. */
export async function unwrapClusterSecret(
  crypto: HsmCrypto,
  token: PreparedToken,
  deadlineMs: number,
): Promise<Result<Uint8Array, string>> {
  const { nonce, ciphertext, tag } = token.wrappedSecret;
  const decrypted = await crypto.decrypt(
    {
      key: preparedKeyObject(token.wrappingKey),
      ciphertext,
      gcmAad: clusterSecretAad(token.serial),
      iv: nonce,
      tag,
    },
    deadlineMs,
  );
  if (!decrypted.ok) {
    const { kind, rv, functionName } = decrypted.error;
    const call = rv === null ? '' : ` (${rv}${functionName === null ? '' : ` from ${functionName}`})`;
    return err(
      `the token ${token.label} (serial ${token.serial}) did not unwrap the cluster secret: ${kind}${call}`,
    );
  }
  const checkValue = decodeHex(token.secretCheckValue);
  if (checkValue !== null && isClusterSecret(decrypted.value, checkValue)) return decrypted;
  wipe(decrypted.value);
  return err(
    `what the token ${token.label} (serial ${token.serial}) unwrapped is not the cluster secret: its check value differs`,
  );
}
