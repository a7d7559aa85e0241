import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import type { Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import type { CallCounts } from './call-counts.js';
import type { openCryptoPool } from './crypto-pool.js';
import type { Management } from './management.js';
import type {
  ManagementResult,
  ManagementWorkerData,
  ObjectDescription,
  ObjectListing,
} from './management-protocol.js';
import type { Pkcs11Uri } from './pkcs11-uri.js';
import type { ProfileProbe } from './profile/token-profile.js';
import type { ProfileName } from './profile/vendor-profiles.js';
import type { TokenState } from './token-health.js';
import { TokenLifecycle } from './token-lifecycle.js';
import type { HsmCrypto, KeyObject } from './types.js';

export interface TokenOptions {
  readonly uri: Pkcs11Uri;
  /** `LibraryParameters` for C_Initialize; empty for none. */
  readonly initArgs: string;
  /** What the operator states of it; `auto`: nothing. */
  readonly profile: ProfileName;
  /** Piscina workers, and sessions of each at most. */
  readonly workers: number;
  readonly sessionsMax: number;
  /** Where the record of refused PINs and the pinned profiles lie. Exists, and is this node's alone. */
  readonly dataDir: string;
  /** `$CREDENTIALS_DIRECTORY`, `null` when systemd gave none. */
  readonly credentialsDirectory: string | null;
  /** `NativeBinding.tryLockFile`. */
  readonly tryLockFile: (fd: number) => number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Tests put others in their place. */
  readonly openPool?: typeof openCryptoPool;
  readonly openManagement?: (module: ManagementWorkerData) => Management;
}

/** What is known of a token. `ops/state-link.ts` sends it to administration. */
export interface TokenStatus {
  /** `pkcs11:` URI without the PIN. */
  readonly uri: string;
  readonly label: string | null;
  readonly serial: string | null;
  readonly manufacturer: string | null;
  readonly model: string | null;
  readonly firmware: string | null;
  readonly state: TokenState;
  /** Why it is not ACTIVE, for people; `null` when it is. Never holds the PIN. */
  readonly reason: string | null;
  readonly sessions: number;
  readonly stuckCells: number;
}

/** The management operations of a token that is logged in; `token-unavailable` with the reason otherwise. */
export interface TokenManagement {
  /** Its secret keys. */
  listObjects(): Promise<ManagementResult<ObjectListing>>;
  /** The one secret key with this CKA_ID (hexadecimal) or label; none or several are refused. */
  findObject(wanted: {
    readonly objectId: string | null;
    readonly label: string | null;
  }): Promise<ManagementResult<ObjectDescription>>;
  /** Makes an AES-256 key, sensitive and not extractable. `objectId`: 16 random bytes, hexadecimal. */
  generateKey(key: {
    readonly objectId: string;
    readonly label: string;
  }): Promise<ManagementResult<ObjectDescription>>;
}

/** One token in a serving process, from its URI to cryptography, kept up in the background. */
export interface Token {
  /** Fails with `token-unavailable` at once while the token is not usable. */
  readonly crypto: HsmCrypto;
  readonly management: TokenManagement;
  /** Settles when the first attempt to reach the token and log in has ended, either way. */
  readonly firstAttempt: Promise<void>;
  status(): TokenStatus;
  /** The PKCS#11 calls of its sessions for cryptography, since it was created. */
  calls(): CallCounts;
  /** The key for the background checks (X-H3) and for canaries; `null` while key state has none for this token. */
  setTestKey(key: KeyObject | null): void;
  /**
   * Encrypts and decrypts with the test key now, within a second. A token without sessions fails; of one without a
   * test key nothing can be said.
   */
  canary(): Promise<'passed' | 'failed' | 'no-test-key'>;
  /**
   * Runs the known cases on the test key, and compares with what is pinned of the token. `accept`: pins what it finds, and
   * uses the token again. The error is a sentence: the token is not logged in, or has no test key.
   */
  probe(accept: boolean): Promise<Result<ProfileProbe, string>>;
  /** Called after every change of state or reason. @returns ends it. */
  onChange(listener: (status: TokenStatus) => void): () => void;
  /**
   * Tries once more to reach the token and log in, as an operator asked; opens the module anew where the token is logged
   * in and ill. Does nothing with one that is well.
   *
   * @param forgive forget first that the token refused the PIN, also for the other processes of this host.
   */
  retryLogin(forgive: boolean): Promise<TokenStatus>;
  /**
   * Why only another process can use this token again, or administer it, as calls do not return; to be asked every
   * second or so.
   */
  beyondRecovery(): string | null;
  /** Lets what is out finish (bounded), closes the sessions, gives the module back. */
  close(): Promise<void>;
}

export function createToken(options: TokenOptions): Token {
  return new TokenLifecycle(options);
}
