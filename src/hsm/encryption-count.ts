import type { Result } from '../base/result.js';
import type { EncryptResult, HsmCrypto, HsmFailure, ObjectId } from './types.js';

/** Told of every encryption that a token is asked for, retries on other tokens and hedges too. */
export interface EncryptionCount {
  /** Right before the token is asked. */
  asked(key: ObjectId): void;
  /** It has failed, or nobody waits for it any more. */
  failed(key: ObjectId, failure: HsmFailure): void;
}

/** `crypto`, each of whose encryptions is counted. */
export function countingEncryptions(crypto: HsmCrypto, count: EncryptionCount): HsmCrypto {
  return {
    encrypt: async (operation, deadlineMs, route): Promise<Result<EncryptResult, HsmFailure>> => {
      const { objectId } = operation.key;
      count.asked(objectId);
      const result = await crypto.encrypt(operation, deadlineMs, route);
      if (!result.ok) count.failed(objectId, result.error);
      return result;
    },
    decrypt: (operation, deadlineMs, route) => crypto.decrypt(operation, deadlineMs, route),
  };
}

/** C_Encrypt calls of one operation at most: a failed verification is repeated once (X-E4), a lost session once. */
const callsPerOperationMax = 4;

/**
 * How many C_Encrypt calls a failed operation may have made beside the one that is counted; −1: not even that one. What
 * found no room, was too large or found no token never came to a module.
 */
export function callsBeside({ kind, rv }: HsmFailure): number {
  switch (kind) {
    case 'overloaded':
    case 'too-large':
      return -1;
    case 'token-unavailable':
      return rv === null ? -1 : callsPerOperationMax - 1;
    case 'bad-ciphertext':
    case 'deadline':
    case 'failed':
    case 'key-lost':
    case 'unsafe-iv':
      return callsPerOperationMax - 1;
  }
}
