import type { Result } from '../base/result.js';
import type { TokenSelector } from './pkcs11-uri.js';

/** What crosses between the serving process's main thread and its management worker: plain values only. */

export interface ManagementWorkerData {
  readonly modulePath: string;
  /** `LibraryParameters` for C_Initialize; empty for none. */
  readonly initArgs: string;
}

export type ManagementTask =
  /** Loads the module if need be, and finds the token. */
  | { readonly op: 'discover'; readonly token: TokenSelector }
  | { readonly op: 'login-state'; readonly slotId: bigint }
  /** Opens the session that keeps the login, and logs in unless the process is. */
  | { readonly op: 'login'; readonly slotId: bigint; readonly pin: string }
  | { readonly op: 'list-objects'; readonly slotId: bigint }
  | {
      readonly op: 'find-object';
      readonly slotId: bigint;
      /** CKA_ID, hexadecimal. One of the two is given; both must hold when both are. */
      readonly objectId: string | null;
      readonly label: string | null;
    }
  | {
      readonly op: 'generate-key';
      readonly slotId: bigint;
      /** CKA_ID, hexadecimal. */
      readonly objectId: string;
      readonly label: string;
    }
  /** Closes the session (the login ends with it when it is the last), gives the module back. */
  | { readonly op: 'release' };

/** The values of successful tasks, by operation. */
export interface ManagementValues {
  discover: DiscoveredToken;
  'login-state': LoginState;
  login: null;
  'list-objects': ObjectListing;
  'find-object': ObjectDescription;
  'generate-key': ObjectDescription;
  release: null;
}

/** Why a management operation gave nothing. */
export interface ManagementError {
  readonly code:
    | 'token-unavailable'
    | 'object-not-found'
    | 'object-ambiguous'
    | 'object-unsuitable'
    | 'failed';
  /** `CKR_…` verbatim where a PKCS#11 call said so, and which call. */
  readonly rv: string | null;
  readonly functionName: string | null;
  /** For people: what was looked for, what was found, what to do. Never holds a PIN. */
  readonly message: string;
}

export type ManagementResult<T> = Result<T, ManagementError>;

/** CK_TOKEN_INFO as far as anybody asks. Strings are trimmed. */
export interface TokenInfo {
  readonly label: string;
  readonly serial: string;
  readonly manufacturer: string;
  readonly model: string;
  readonly firmware: string;
}

export interface DiscoveredToken extends TokenInfo {
  readonly slotId: bigint;
}

export interface LoginState {
  readonly loggedIn: boolean;
  /** CKF_LOGIN_REQUIRED. */
  readonly loginRequired: boolean;
  /** CKF_USER_PIN_INITIALIZED. */
  readonly pinInitialised: boolean;
  /** CKF_USER_PIN_FINAL_TRY: one more wrong PIN locks the token. */
  readonly finalTry: boolean;
  /** CKF_USER_PIN_LOCKED. */
  readonly locked: boolean;
}

/** A secret key of the token. Byte strings are lower-case hexadecimal. */
export interface ObjectDescription {
  /** CKA_ID; empty where the object has none. */
  readonly objectId: string;
  readonly label: string;
  /** CKA_KEY_TYPE, e.g. `CKK_AES`. */
  readonly keyType: string;
  /** `null` where the token does not say. */
  readonly keyBits: number | null;
  /** X-K1: from the attributes that say what the key may do. */
  readonly usage: readonly string[];
  readonly sensitive: boolean | null;
  readonly extractable: boolean | null;
  /** CKA_CHECK_VALUE, where the token keeps it. */
  readonly checkValue: string | null;
}

export interface ObjectListing {
  readonly objects: readonly ObjectDescription[];
  /** The token has more than are listed. */
  readonly truncated: boolean;
}
