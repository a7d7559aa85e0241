import type { EncryptOperation, HsmCrypto, ObjectId } from './types.js';

/** Told of every encryption that a token is asked for, retries on other tokens and hedges too. */
export interface EncryptionCount {
  /** Right before the token is asked: counts as one. */
  asked(key: ObjectId): void;
  /**
   * How many more C_Encrypt calls than that one were begun, as soon as it is known; −1: not even that one. Not told where
   * there is nothing to correct.
   */
  corrected(key: ObjectId, more: number): void;
}

/** `crypto`, each of whose encryptions is counted. */
export function countingEncryptions(crypto: HsmCrypto, count: EncryptionCount): HsmCrypto {
  return {
    encrypt: (operation, deadlineMs, route) => {
      const { key, plaintext, gcmAad, integrityPrefix, verify } = operation;
      const { objectId } = key;
      count.asked(objectId);
      const begun = (encryptions: number): void => {
        if (encryptions !== 1) count.corrected(objectId, encryptions - 1);
      };
      // Field by field: V8 makes a new shape for each copy of an object that gets one field more.
      const counted: Required<EncryptOperation> = { key, plaintext, gcmAad, integrityPrefix, verify, begun };
      return crypto.encrypt(counted, deadlineMs, route);
    },
    decrypt: (operation, deadlineMs, route) => crypto.decrypt(operation, deadlineMs, route),
  };
}
