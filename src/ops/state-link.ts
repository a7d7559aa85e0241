import type { Config } from './config.js';

/**
 * The link between the replica and the serving processes of a node: a unix socket on which the replica listens
 * (`stateSocketPath`). It carries key state down (a snapshot, then the same ordered commands that were committed),
 * acknowledgements up, the few HSM operations that administration needs down, and metrics up.
 *
 * A frame is `uint32be length of the rest ‖ uint8 type ‖ payload`. Key state payloads are opaque here: `keystate/`
 * has their codec. Numbers are big-endian.
 */

/** Where the replica listens for the serving processes of this node. */
export const stateSocketPath = (config: Config): string => `${config.node.runtimeDir}/state.sock`;

export const frameBytesMax = 4 * 1024 * 1024;

export const FrameType = {
  /** serving → replica, first: JSON `Hello`. */
  hello: 1,
  /** replica → serving: `uint64 index`; forget everything, a snapshot as of `index` follows. */
  snapshotBegin: 2,
  /** replica → serving: one snapshot record. */
  snapshotRecord: 3,
  /** replica → serving: `uint64 index`, the snapshot is whole; state is valid from here. */
  snapshotEnd: 4,
  /** replica → serving: `uint64 index ‖ command bytes`, in order, without gaps. */
  entry: 5,
  /** serving → replica: `uint64 index` applied. */
  applied: 6,
  /** replica → serving: JSON `HsmRequest`. */
  hsmRequest: 7,
  /** serving → replica: JSON `HsmReply`. */
  hsmReply: 8,
  /** serving → replica, every `metricsIntervalMs`: JSON `MetricsReport`. */
  metrics: 9,
  /**
   * replica → serving, among the entries: `uint64 asOfMs ‖ uint64 index`. As of that moment (boot clock) nothing later
   * than `index`, which this link has carried already, was acknowledged anywhere in the cluster.
   */
  fresh: 10,
  /** replica → serving, after the snapshot and whenever it changes: JSON `Standing`. */
  standing: 11,
  /** serving → replica, while it wants any and the active format has them: JSON `IvWants`. */
  ivWants: 12,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

export interface Frame {
  readonly type: FrameType;
  readonly payload: Buffer;
}

export const metricsIntervalMs = 1_000;

/** Where this node stands in its cluster, as far as serving is concerned. */
export interface Standing {
  /** False: what this node knows may be no state to serve by (replication.md, _A stale node must not lie_). */
  readonly mayServe: boolean;
  /** Why not, for people; empty when it may. */
  readonly reason: string;
  /** Live proxies, this one included (X-H2). */
  readonly fleetSize: number;
}

export interface Hello {
  readonly linkVersion: 1;
  readonly pid: number;
  readonly slot: number;
  /** `XKSD_SUPERVISOR_NONCE`: a replica has no use for the processes of another supervisor. */
  readonly supervisorNonce: string;
  /** Random, new at every start of the process: counters of one `processId` only grow. */
  readonly processId: string;
  readonly startedAtMs: number;
  /**
   * Whether this process has been linked to a replica before: if so, and the replica does not know it, an earlier
   * replica has counted what its counters hold.
   */
  readonly linkedBefore: boolean;
  /** Software version, for `xksctl status`. */
  readonly version: string;
}

export interface MetricsReport {
  /** `await registry.getMetricsAsJSON()` of the serving process. */
  readonly metrics: readonly unknown[];
  /** accessKeyId → wall-clock ms of its last successful use in this process. */
  readonly credentialLastUsedMs: Readonly<Record<string, number>>;
  readonly readiness: { readonly ready: boolean; readonly reason: string };
  readonly tokens: readonly TokenStatus[];
}

/** Random IVs that a serving process asks for; the newest counts. The grant is the entry of key state with its `processId`. */
export interface IvWants {
  /** Of the process when it asked: what was granted up to there, it knows. */
  readonly appliedIndex: number;
  /** Number of this reservation, from 1 on: it is the same whenever it comes again. Missing where there is none. */
  readonly sequence?: number | undefined;
  /** Encryptions that were made without a reservation since: they come with the next one, unless the process ends before. */
  readonly later?: readonly { readonly objectId: string; readonly used: number }[] | undefined;
  /** Up to 64, each of another HSM object; none: nothing any more. */
  readonly reservations: readonly {
    /** CKA_ID, lower-case hexadecimal. */
    readonly objectId: string;
    /** Encryptions that it has made without a reservation. */
    readonly used: number;
    /** The block that it wants, in encryptions; 0 for none. */
    readonly ahead: number;
  }[];
}

export interface TokenStatus {
  /** `pkcs11:` URI without the PIN. */
  readonly uri: string;
  readonly label: string | null;
  readonly serial: string | null;
  readonly manufacturer: string | null;
  readonly model: string | null;
  readonly firmware: string | null;
  readonly state: 'ACTIVE' | 'DEGRADED' | 'UNAVAILABLE';
  /** Why it is not ACTIVE, for people; `null` when it is. */
  readonly reason: string | null;
  readonly sessions: number;
  readonly stuckCells: number;
}

/** An HSM object, as administration sees it. Byte strings are lower-case hexadecimal. */
export interface ObjectDescription {
  /** CKA_ID. */
  readonly objectId: string;
  readonly label: string;
  /** CKA_KEY_TYPE, e.g. `CKK_AES`. */
  readonly keyType: string;
  /** CKA_VALUE_LEN in bits; `null` where the token does not say. */
  readonly keyBits: number | null;
  /** From the object's attributes, in XKS terms (X-K1): ENCRYPT, DECRYPT, SIGN, VERIFY, WRAP, UNWRAP, DERIVE. */
  readonly usage: readonly string[];
  readonly sensitive: boolean | null;
  readonly extractable: boolean | null;
  /** CKA_CHECK_VALUE, where the token keeps it. */
  readonly checkValue: string | null;
}

/** A constant encrypted under an object (hsm.md, _Which object is the key_). Hexadecimal. */
export interface WitnessJson {
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
}

/** What administration asks of a serving process. `id` pairs a reply with its request. */
export type HsmRequest = { readonly id: number } & HsmOperation;

export type HsmOperation =
  /** Tokens configured and what lies on them, test and wrapping keys included. */
  | { readonly op: 'list-objects' }
  /**
   * Finds or makes this node's test key and wrapping key on a token, and wraps the cluster secret (minted when key
   * state has none) for it. Idempotent. `place`: which of the configured tokens, from 0;
   * `no-such-token` after the last.
   */
  | { readonly op: 'prepare-token'; readonly place: number }
  /**
   * Makes an AES-256 key, sensitive and not extractable, with a random 16-byte CKA_ID. Of several tokens the one with
   * this serial or label; refused without.
   */
  | { readonly op: 'generate-key'; readonly label: string; readonly singleToken: string | null }
  /**
   * Finds exactly one object by CKA_ID or label on every token, makes its witness when it can encrypt and decrypt, and
   * decrypts that on the other tokens.
   */
  | { readonly op: 'inspect-key'; readonly objectId: string | null; readonly label: string | null }
  /** Looks on every token whether a registered key is there, and is that key. */
  | {
      readonly op: 'locate-key';
      readonly objectId: string;
      readonly witness: WitnessJson | null;
      readonly checkValue: string | null;
    }
  /** Encrypts and decrypts with the test key of every token, now. */
  | { readonly op: 'test-tokens' }
  /**
   * Runs the known cases of a probe on the test key of every token. `accept`: the serial or label of one whose profile is
   * pinned as it is found, and which is used again.
   */
  | { readonly op: 'probe-tokens'; readonly accept: string | null }
  /** Mints a SigV4 credential and seals its secret for `keyStore`. */
  | { readonly op: 'mint-credential'; readonly keyStore: string }
  /**
   * Tries once more to log in where this process is not, and opens the module anew where the token is ill. `forgive`: forgets first that the token refused
   * the PIN; for one process of a node only, or a wrong PIN is tried once for each of them.
   */
  | { readonly op: 'retry-login'; readonly forgive: boolean };

export type HsmReply =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  /** `message` says what was looked for, what was found, and what to do. Never holds a PIN. */
  | { readonly id: number; readonly ok: false; readonly code: HsmErrorCode; readonly message: string };

export type HsmErrorCode =
  | 'token-unavailable'
  | 'no-such-token'
  | 'not-prepared'
  | 'object-not-found'
  | 'object-ambiguous'
  | 'object-unsuitable'
  | 'failed';

/** Whether a token holds a key. */
export interface KeyOnToken {
  /** For people. */
  readonly token: string;
  /** `another`: an object with its CKA_ID that is not this key. `unknown`: `reason` says why. */
  readonly holds: 'yes' | 'no' | 'another' | 'unknown';
  readonly reason: string | null;
}

/** What a token is like (hsm.md, _Vendor differences_). Texts are for people. */
export interface TokenProbe {
  /** As it is after the probe. */
  readonly token: TokenStatus;
  /** `[[hsm]] profile`. */
  readonly stated: string;
  /** What was pinned before, and what was found; `null` where nothing was. */
  readonly pinned: string | null;
  readonly found: string | null;
  /**
   * `differs`, `refused`: it is not used, and an operator can, or cannot, accept it. `unknown`: it said nothing that counts,
   * or could not be probed at all.
   */
  readonly verdict: 'agrees' | 'accepted' | 'differs' | 'refused' | 'unknown';
  readonly reason: string | null;
  /** What came back from each case. */
  readonly cases: readonly { readonly what: string; readonly answer: string }[];
}

/** Values of the replies, by operation. */
export interface HsmReplyValues {
  'list-objects': {
    readonly tokens: readonly {
      readonly token: TokenStatus;
      /** `null` when they could not be looked at; then `unlisted` says why. */
      readonly objects: readonly ObjectDescription[] | null;
      readonly unlisted: string | null;
    }[];
  };
  'prepare-token': {
    readonly token: TokenStatus;
    readonly serial: string;
    readonly label: string;
    readonly testKey: { readonly objectId: string; readonly witness: WitnessJson };
    readonly wrappingKey: { readonly objectId: string; readonly witness: WitnessJson };
    /** The cluster secret under the wrapping key; `null` when key state has it for this serial already. */
    readonly wrappedSecret: {
      readonly iv: string;
      readonly ciphertext: string;
      readonly tag: string;
      readonly checkValue: string;
    } | null;
    readonly created: readonly string[];
  };
  'generate-key': { readonly object: ObjectDescription; readonly witness: WitnessJson };
  'inspect-key': {
    /** As all tokens that hold it allow its use. */
    readonly object: ObjectDescription;
    readonly witness: WitnessJson | null;
    /** Every configured one. */
    readonly tokens: readonly KeyOnToken[];
  };
  'locate-key': { readonly tokens: readonly KeyOnToken[] };
  'test-tokens': {
    readonly tokens: readonly {
      /** As it is after the test. */
      readonly token: TokenStatus;
      readonly outcome: 'passed' | 'failed' | 'no-test-key';
      readonly tookMs: number;
    }[];
  };
  'probe-tokens': { readonly tokens: readonly TokenProbe[] };
  'mint-credential': {
    readonly accessKeyId: string;
    /** Shown once to the operator; never logged, never stored. */
    readonly secretAccessKey: string;
    readonly sealed: { readonly nonce: string; readonly ciphertext: string; readonly tag: string };
  };
  'retry-login': { readonly tokens: readonly TokenStatus[] };
}
