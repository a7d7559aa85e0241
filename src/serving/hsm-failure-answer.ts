import type { HsmFailure } from '../hsm/types.js';
import { type XksError, xksError } from '../xks/errors.js';

/** Which PKCS#11 call said what, for the operator: ` (CKR_DEVICE_ERROR from C_Encrypt)`. */
function callOf(failure: HsmFailure): string {
  if (failure.rv === null) return '';
  return failure.functionName === null ? ` (${failure.rv})` : ` (${failure.rv} from ${failure.functionName})`;
}

/**
 * What a failure in the HSM is to KMS (X-X2): trouble of the HSM's or ours is never a 400 or 404, which KMS would hold
 * against its caller. Only a decrypt can have a bad ciphertext.
 */
export function hsmFailureAnswer(operation: 'Encrypt' | 'Decrypt', failure: HsmFailure): XksError {
  switch (failure.kind) {
    case 'bad-ciphertext':
      return operation === 'Decrypt'
        ? xksError(
            'InvalidCiphertextException',
            'The ciphertext is not authentic under this key, initialization vector, tag, metadata and additional authenticated data.',
          )
        : xksError(
            'InternalException',
            `The HSM could not decrypt what it had just encrypted${callOf(failure)}.`,
          );
    case 'deadline':
      return xksError('DependencyTimeoutException', 'The HSM did not answer in time.');
    case 'token-unavailable':
      return xksError('DependencyTimeoutException', `No HSM is available now${callOf(failure)}.`);
    case 'overloaded':
      return xksError('ThrottlingException', 'More work is waiting for the HSM than it can do in time.');
    case 'too-large':
      return xksError('UnsupportedOperationException', 'The input is larger than this proxy supports.');
    case 'key-lost':
      return xksError(
        'InternalException',
        `The HSM does not hold the key that this external key id stands for${callOf(failure)}.`,
      );
    case 'unsafe-iv':
      return xksError(
        'InternalException',
        'The HSM made an initialization vector that must not be used; it is used no more.',
      );
    case 'failed':
      return xksError('InternalException', `The HSM failed${callOf(failure)}.`);
  }
}
