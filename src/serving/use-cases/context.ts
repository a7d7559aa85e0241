import type { Result } from '../../base/result.js';
import type { HsmCrypto, HsmFailure } from '../../hsm/types.js';
import type { Known } from '../key-lookup.js';

/** What a use case on a key gets: an authentic, admitted request's surroundings. */
export interface KeyUseContext {
  /** Key state as of now; another object after the replica has sent a new snapshot. */
  known(): Known;
  /** Whether an HSM object has random IVs left, or may go beyond (NIST SP 800-38D §8.3). */
  mayEncrypt(objectId: string): boolean;
  /** Operations that end by the request's deadline. */
  readonly hsm: DeadlinedCrypto;
  readonly keyStore: string;
  readonly externalKeyId: string;
}

/** `HsmCrypto` with this request's deadline in it. */
export interface DeadlinedCrypto {
  encrypt(operation: Parameters<HsmCrypto['encrypt']>[0]): ReturnType<HsmCrypto['encrypt']>;
  decrypt(operation: Parameters<HsmCrypto['decrypt']>[0]): Promise<Result<Uint8Array, HsmFailure>>;
}
