import type { ClusterCommand, ClusterQueries } from './cluster-types.js';
import type { IvBudget, IvReservation, IvRule } from './iv-budget.js';

/**
 * The replicated key state: what a node knows of key stores, credentials and keys. Read on every request, in O(1).
 * Byte strings are `Uint8Array`s here and hexadecimal in commands' JSON.
 */

export type Status = 'ENABLED' | 'DISABLED';

/** AES-256-GCM output under the cluster secret or a token's key. */
export interface SealedBytes {
  /** 12 bytes; 12 to 16 where a token made it (X-E2). */
  readonly nonce: Uint8Array;
  readonly ciphertext: Uint8Array;
  /** 16 bytes. */
  readonly tag: Uint8Array;
}

/**
 * The kill switch contract (replication.md): `serve` goes on with the last key state; `stop` refuses requests once this
 * node's freshness is older than `boundMs`.
 */
export type OnIsolation =
  | { readonly rule: 'serve' }
  /** `isolationBoundMsMin` … `isolationBoundMsMax`. */
  | { readonly rule: 'stop'; readonly boundMs: number };

/** An isolated set of credentials and keys behind one URI path prefix (X-U2). */
export interface KeyStore {
  /** For people and metrics: 1–64 of `[A-Za-z0-9._-]`, first and last alphanumeric. Immutable. */
  readonly name: string;
  /** Without slashes at its ends; empty for `/kms/xks/v1`. Unique. Immutable. */
  readonly uriPathPrefix: string;
  /** The Regions of its KMS, ≥ 1 (X-A3). */
  readonly regions: readonly string[];
  /**
   * Its ciphertexts without metadata come from another proxy: their AAD is the caller's as it is, not our layout
   * (X-E3).
   */
  readonly adopted: boolean;
  readonly status: Status;
  /** What becomes of its requests on a node that hears of no quorum. */
  readonly onIsolation: OnIsolation;
  readonly createdAtMs: number;
  /** Log index of the last change. Commands that grant carry the revision they saw. */
  readonly revision: number;
}

/** A SigV4 credential. */
export interface Credential {
  /** 20–30 of `[A-Z2-7]` (X-A2). Unique over all key stores. */
  readonly accessKeyId: string;
  readonly keyStore: string;
  /** The secret under the cluster secret, AAD: key store and access key id. */
  readonly sealedSecret: SealedBytes;
  readonly createdAtMs: number;
  readonly revision: number;
}

/** One object of the HSM behind a key. */
export interface KeyVersion {
  /** ≥ 1, the number in ciphertextMetadata (X-E2a). */
  readonly version: number;
  /** CKA_ID, lower-case hexadecimal. */
  readonly objectId: string;
  readonly witness: SealedBytes | null;
  /** CKA_CHECK_VALUE, hexadecimal, where the token keeps it. */
  readonly checkValue: string | null;
  readonly status: Status;
}

export interface Key {
  /** X-U3; unique within its key store. */
  readonly externalKeyId: string;
  readonly keyStore: string;
  readonly versions: readonly KeyVersion[];
  /** The version that encrypts. */
  readonly currentVersion: number;
  readonly status: Status;
  /** Pinned from the object's attributes at registration (X-K1, X-E4). */
  readonly usage: readonly string[];
  readonly description: string;
  readonly createdAtMs: number;
  readonly revision: number;
}

/** What `xksctl hsm prepare` made on one token. */
export interface PreparedToken {
  /** CK_TOKEN_INFO.serialNumber, trimmed. */
  readonly serial: string;
  readonly label: string;
  readonly testKey: { readonly objectId: string; readonly witness: SealedBytes };
  readonly wrappingKey: { readonly objectId: string; readonly witness: SealedBytes };
  /** The cluster secret under the wrapping key. */
  readonly wrappedSecret: SealedBytes;
  /** Says that an unwrapped secret is the right one, and nothing about it: hexadecimal. */
  readonly secretCheckValue: string;
}

export interface Cluster {
  /** Random, minted by `xksctl cluster init`, and anew by a recovery. */
  readonly clusterId: string;
  readonly nodeName: string;
  readonly createdAtMs: number;
}

/** Common to all commands. Everything that varies (time, randomness, who) is put in by the proposer. */
export interface CommandEnvelope {
  /** Unique per intended change; since format 2 as `request-id.ts` mints it. */
  readonly requestId: string;
  /** Wall clock of the proposer, ms. */
  readonly atMs: number;
  /** Who asked, for the record: `uid=0`. */
  readonly by: string;
}

export type Command = CommandEnvelope &
  (
    | {
        readonly type: 'cluster.init';
        readonly clusterId: string;
        readonly nodeName: string;
        /**
         * Of the founder, who becomes the only voter, with `host:port` of its peer listener; and the format that the
         * new cluster begins with. All three or none: without them it is the command of format 1.
         */
        readonly memberId?: string;
        readonly address?: string;
        readonly format?: number;
      }
    | { readonly type: 'token.prepare'; readonly token: PreparedToken }
    | {
        readonly type: 'keystore.create';
        readonly name: string;
        readonly uriPathPrefix: string;
        readonly regions: readonly string[];
        readonly adopted: boolean;
      }
    | { readonly type: 'keystore.enable'; readonly name: string; readonly revision: number }
    | { readonly type: 'keystore.disable'; readonly name: string }
    | {
        readonly type: 'credential.create';
        readonly keyStore: string;
        readonly accessKeyId: string;
        readonly sealedSecret: SealedBytes;
      }
    | { readonly type: 'credential.retire'; readonly keyStore: string; readonly accessKeyId: string }
    | {
        readonly type: 'key.create';
        readonly keyStore: string;
        readonly externalKeyId: string;
        readonly objectId: string;
        readonly witness: SealedBytes | null;
        readonly checkValue: string | null;
        readonly usage: readonly string[];
        readonly description: string;
      }
    | {
        readonly type: 'key.enable';
        readonly keyStore: string;
        readonly externalKeyId: string;
        readonly revision: number;
      }
    | { readonly type: 'key.disable'; readonly keyStore: string; readonly externalKeyId: string }
    | {
        readonly type: 'key.set';
        readonly keyStore: string;
        readonly externalKeyId: string;
        /** Of its current version. */
        readonly ivBudget: IvRule;
      }
    | {
        readonly type: 'iv.reserve';
        /** `processId` of the serving process that gets the blocks; they are lost when it has ended. */
        readonly holder: string;
        /**
         * From 1 on, rising with each new reservation of this holder: one that is proposed again, because nobody knows what
         * became of it, counts once. Missing before format 4.
         */
        readonly sequence?: number;
        /** 1 … `reservationsPerCommandMax`, each of another object. */
        readonly reservations: readonly IvReservation[];
      }
    | {
        readonly type: 'keystore.set';
        readonly name: string;
        readonly onIsolation: OnIsolation;
        /** The one seen; counts unless the change only takes away. */
        readonly revision: number;
      }
    | ClusterCommand
  );

export type CommandType = Command['type'];
export type CommandOf<T extends CommandType> = Extract<Command, { readonly type: T }>;

/** Why a command changed nothing. Part of the replicated result: the same on every node. */
export interface CommandRefusal {
  readonly code:
    | 'not-found'
    | 'already-exists'
    | 'conflict'
    | 'invalid'
    | 'limit'
    /** Too late: an old request id, of which is not known any more whether it was executed; an old invitation. */
    | 'expired';
  /** For the operator; says what is in the way and what to do. */
  readonly message: string;
}

/** `repeated`: what became of the request id's first command; this one was not executed. */
export type CommandResult =
  | { readonly ok: true; readonly revision: number; readonly repeated?: true }
  | { readonly ok: false; readonly error: CommandRefusal; readonly repeated?: true };

/** Reads that the request path and administration use; each O(1) but the listings. */
export interface KeyStateQueries extends ClusterQueries {
  /** Index of the last command applied; 0 before the first. */
  readonly appliedIndex: number;
  cluster(): Cluster | null;
  keyStoreByPrefix(uriPathPrefix: string): KeyStore | null;
  keyStore(name: string): KeyStore | null;
  credential(accessKeyId: string): Credential | null;
  key(keyStore: string, externalKeyId: string): Key | null;
  /** Who uses an HSM object, as a key or as a test or wrapping key. */
  objectUser(objectId: string): string | null;
  /** The key that an HSM object is a version of. */
  keyOfObject(objectId: string): Key | null;
  /** What is known of the random IVs under an HSM object; `null` before the first reservation. */
  ivBudget(objectId: string): IvBudget | null;
  ivBudgets(): Iterable<IvBudget>;
  /** The last reservation of a holder that was counted; 0 when none is known. */
  ivSequence(holder: string): number;
  preparedToken(serial: string): PreparedToken | null;
  keyStores(): Iterable<KeyStore>;
  credentials(keyStore: string): Iterable<Credential>;
  keys(keyStore: string): Iterable<Key>;
  preparedTokens(): Iterable<PreparedToken>;
  /** What became of a request lately; `null` when it is not known. */
  outcomeOf(requestId: string): { readonly ok: boolean; readonly revision: number } | null;
  counts(): { readonly keyStores: number; readonly credentials: number; readonly keys: number };
}

export const limits = {
  keyStoresMax: 1_000,
  keysMax: 100_000,
  credentialsPerKeyStoreMax: 10,
  regionsPerKeyStoreMax: 10,
  keyVersionsMax: 1_000,
  descriptionCharactersMax: 256,
  preparedTokensMax: 64,
  /** PKCS#11 sets no bound to CKA_ID; tokens do, and none goes beyond. */
  objectIdBytesMax: 255,
  /** CK_TOKEN_INFO has 16 and 32 bytes for them; UTF-8 takes more. */
  tokenNameCharactersMax: 64,
  /** Of what is sealed, in bytes: secrets have 43–64 (X-A2), witnesses and the cluster secret 32. */
  sealedCiphertextBytesMax: 256,
  /** Remembered so that none comes back; the oldest are forgotten (random ids of ≥ 100 bits don't repeat). */
  retiredCredentialsMax: 10_000,
  /** `requestId` and `by`. */
  envelopeCharactersMax: 128,
  commandBytesMax: 64 * 1024,
  /** Smallest D of `on-isolation = "stop"`: far above the time in which a new leader stands (cluster-settings.ts). */
  isolationBoundMsMin: 6_000,
  isolationBoundMsDefault: 10_000,
  isolationBoundMsMax: 3_600_000,
} as const;
