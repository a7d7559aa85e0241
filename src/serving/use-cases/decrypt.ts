import { wipe } from '../../base/bytes.js';
import { err, ok, type Result } from '../../base/result.js';
import { witnessAad } from '../../hsm/witness.js';
import type { KeyStore } from '../../keystate/types.js';
import { decodeCiphertextMetadata } from '../../xks/ciphertext-metadata.js';
import { type XksError, xksError } from '../../xks/errors.js';
import { frameAad } from '../../xks/gcm-aad.js';
import type { DecryptRequest } from '../../xks/requests.js';
import { decryptBody } from '../../xks/responses.js';
import { hsmFailureAnswer } from '../hsm-failure-answer.js';
import {
  checkStillUsable,
  findUsableKey,
  findUsableVersion,
  keyObjectOf,
  requireUsage,
} from '../key-lookup.js';
import type { KeyUseContext } from './context.js';

/** Decrypt (X-D1, X-D2). The answer's body, which holds the plaintext, or the error. */
export async function decrypt(
  request: DecryptRequest,
  context: KeyUseContext,
): Promise<Result<Uint8Array, XksError>> {
  const { keyStore, externalKeyId } = context;
  const known = context.known();
  const key = findUsableKey(known, keyStore, externalKeyId);
  if (!key.ok) return key;
  const usageFault = requireUsage(key.value, 'DECRYPT', '');
  if (usageFault !== null) return err(usageFault);

  const versionNumber = decodeCiphertextMetadata(request.ciphertextMetadata);
  if (versionNumber === null) return err(invalidCiphertext('The ciphertextMetadata is not of this proxy.'));
  const version = findUsableVersion(key.value, versionNumber);
  if (version === null) {
    // X-E2a: another node may have made a version that this one has not heard of.
    return err(
      known.isCurrent
        ? invalidCiphertext(`The key ${externalKeyId} has no version ${versionNumber}.`)
        : xksError(
            'DependencyTimeoutException',
            `This node does not know version ${versionNumber} of the key ${externalKeyId}, and its key state may be out of date.`,
          ),
    );
  }
  if (!version.ok) return version;
  const gcmAad = gcmAadOf(request, known.state.keyStore(keyStore));
  if (gcmAad === null) return err(invalidCiphertext('The additional authenticated data is reserved.'));

  const decrypted = await context.hsm.decrypt({
    key: keyObjectOf(version.value),
    ciphertext: request.ciphertext,
    gcmAad,
    iv: request.iv,
    tag: request.tag,
  });
  if (!decrypted.ok) return err(hsmFailureAnswer('Decrypt', decrypted.error));
  const fault = checkStillUsable(context.known(), keyStore, externalKeyId, version.value);
  const answer = fault === null ? ok(decryptBody(decrypted.value)) : err(fault);
  wipe(decrypted.value);
  return answer;
}

/**
 * X-E3. What an adopted key store brought along was encrypted by another proxy, under the caller's AAD as it is: the
 * one place where a request could name the AAD of a witness, `null` then.
 */
function gcmAadOf(request: DecryptRequest, keyStore: KeyStore | null): Uint8Array | null {
  if (request.ciphertextMetadata !== null || keyStore?.adopted !== true) {
    return frameAad(request.aad, request.ciphertextMetadata);
  }
  return Buffer.compare(request.aad, witnessAad) === 0 ? null : request.aad;
}

const invalidCiphertext = (errorMessage: string): XksError =>
  xksError('InvalidCiphertextException', errorMessage);
