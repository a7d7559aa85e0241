import type { Result } from '../base/result.js';

/** What the rest of the code may know of a token. Terms are PKCS#11's. */

declare const brand: unique symbol;

/** A CKA_ID as lower-case hexadecimal: names a key object on every token that holds it. */
export type ObjectId = string & { readonly [brand]: 'ObjectId' };

export const objectId = (hex: string): ObjectId => hex as ObjectId;

/** A constant encrypted under a key, with an AAD that no XKS request can form. Shows that a handle is that key. */
export interface Witness {
  /** 12 bytes. */
  readonly iv: Uint8Array;
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

/** A key object as pinned in key state. */
export interface KeyObject {
  readonly objectId: ObjectId;
  /** `null` for a key that cannot both encrypt and decrypt. */
  readonly witness: Witness | null;
}

/** AES-256-GCM with a fresh 12-byte IV and a 16-byte tag. */
export interface EncryptOperation {
  readonly key: KeyObject;
  readonly plaintext: Uint8Array;
  /** GCM's AAD as it is, framing included (X-E3). */
  readonly gcmAad: Uint8Array;
  /** When given: SHA-256(`integrityPrefix` ‖ iv ‖ ciphertext ‖ tag), taken before the verifying decrypt (X-E4). */
  readonly integrityPrefix: Uint8Array | null;
  /** Decrypt the result in the token and compare, before answering. Only for keys that can decrypt. */
  readonly verify: boolean;
  /**
   * Told once how many C_Encrypt calls were begun for this operation, as soon as that is certain: after the answer, where
   * that did not wait for a call which is out. Who asks no module tells nothing but 0, if anything.
   */
  readonly begun?: (encryptions: number) => void;
}

export interface EncryptResult {
  /** As long as the plaintext. */
  readonly ciphertext: Uint8Array;
  /** 12 bytes. */
  readonly iv: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
  /** 32 bytes, `null` when no `integrityPrefix` was given. */
  readonly integrityValue: Uint8Array | null;
}

export interface DecryptOperation {
  readonly key: KeyObject;
  readonly ciphertext: Uint8Array;
  readonly gcmAad: Uint8Array;
  /** 12 or 16 bytes. */
  readonly iv: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
  /** The same token has just failed over it in another way: whatever it says of the ciphertext, it has to say more than once. */
  readonly hasFailed?: true;
}

/** Why an operation gave no result. Only `bad-ciphertext` is the caller's fault (X-X2). */
export type HsmFailure = {
  readonly kind:
    | 'bad-ciphertext'
    /** Not done by the deadline: 503. */
    | 'deadline'
    /** The queue or the cells are full: 429. */
    | 'overloaded'
    /** No usable token now (logged out, removed, not found, PIN refused): 503. */
    | 'token-unavailable'
    /** The token has lost a key that key state knows, or holds another one in its place: 500. */
    | 'key-lost'
    /** Input longer than a cell: 501. */
    | 'too-large'
    /** The token made an IV that is zero or came before, or replaced ours: 500, and the token is used no more. */
    | 'unsafe-iv'
    /** The token or we failed: 500. */
    | 'failed';
  /**
   * Of `failed`: the token, well as it is, refused the ciphertext, but not as often as it takes to call that bad. Whose fault
   * it is nobody knows.
   */
  readonly isDoubted?: true;
  /** `CKR_…` where a PKCS#11 call said so, and which call. */
  readonly rv: string | null;
  readonly functionName: string | null;
};

/** Where an operation is done: written by a fleet of several tokens, until the operation is answered. */
export interface HsmRoute {
  /** The token that was asked last, or that answered: its serial or label. */
  hsm: string | null;
  /** The one that was asked first, where another one had to answer. */
  askedFirst: string | null;
}

/** Times in `Clock.monotonicMs()`. */
export interface HsmCrypto {
  encrypt(
    operation: EncryptOperation,
    deadlineMs: number,
    route?: HsmRoute,
  ): Promise<Result<EncryptResult, HsmFailure>>;
  /** The plaintext is the caller's to wipe. */
  decrypt(
    operation: DecryptOperation,
    deadlineMs: number,
    route?: HsmRoute,
  ): Promise<Result<Uint8Array, HsmFailure>>;
}
