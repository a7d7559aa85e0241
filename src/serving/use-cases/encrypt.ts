import { err, ok, type Result } from '../../base/result.js';
import { integrityPrefix } from '../../xks/cdiv.js';
import { encodeCiphertextMetadata } from '../../xks/ciphertext-metadata.js';
import { type XksError, xksError } from '../../xks/errors.js';
import { frameAad } from '../../xks/gcm-aad.js';
import type { EncryptRequest } from '../../xks/requests.js';
import { encryptBody } from '../../xks/responses.js';
import { hsmFailureAnswer } from '../hsm-failure-answer.js';
import {
  checkStillUsable,
  findUsableKey,
  findUsableVersion,
  keyObjectOf,
  requireUsage,
} from '../key-lookup.js';
import type { KeyUseContext } from './context.js';

/** Encrypt (X-E1 to X-E5). The answer's body, or the error. The request's plaintext stays the caller's to wipe. */
export async function encrypt(
  request: EncryptRequest,
  context: KeyUseContext,
): Promise<Result<Uint8Array, XksError>> {
  const { keyStore, externalKeyId } = context;
  const key = findUsableKey(context.known(), keyStore, externalKeyId);
  if (!key.ok) return key;
  const canDecrypt = requireUsage(
    key.value,
    'DECRYPT',
    ', so the integrity value asked for cannot be verified',
  );
  const usageFault =
    requireUsage(key.value, 'ENCRYPT', '') ??
    // X-E4: an integrity value is only given after a verifying decrypt.
    (request.integrityAsked ? canDecrypt : null);
  if (usageFault !== null) return err(usageFault);
  const version = findUsableVersion(key.value, key.value.currentVersion);
  if (version === null) {
    return err(xksError('InternalException', `The key ${externalKeyId} has no current version.`));
  }
  if (!version.ok) return version;
  if (!context.mayEncrypt(version.value.objectId)) return err(noIvsLeft(externalKeyId));

  const ciphertextMetadata = encodeCiphertextMetadata(version.value.version); // X-E2a
  const encrypted = await context.hsm.encrypt({
    key: keyObjectOf(version.value),
    plaintext: request.plaintext,
    gcmAad: frameAad(request.aad, ciphertextMetadata), // X-E3
    integrityPrefix: request.integrityAsked ? integrityPrefix(request.aad, ciphertextMetadata) : null,
    verify: canDecrypt === null, // X-E4: asked for CDIV or not
  });
  if (!encrypted.ok) return err(hsmFailureAnswer('Encrypt', encrypted.error));
  const fault = checkStillUsable(context.known(), keyStore, externalKeyId, version.value);
  if (fault !== null) return err(fault);
  const { ciphertext, iv, tag, integrityValue } = encrypted.value;
  return ok(encryptBody({ ciphertext, ciphertextMetadata, iv, tag, integrityValue }));
}

/** A state of the key that only its operators can change, so 400; decrypting has no such end. */
const noIvsLeft = (externalKeyId: string): XksError =>
  xksError(
    'InvalidStateException',
    `The random initialization vectors of the key ${externalKeyId} (2^32) are used up, or so nearly that this node may use none before it has reserved them; it only decrypts now.`,
  );
