import type { FaultShim } from '../support/fault-shim.js';
import type { NetworkHsm } from '../support/network-hsm.js';
import type { LoadClient } from './load-client.js';

/** What a case may break: one of the tokens, whichever way it is reached. */
export interface FaultyToken {
  /** In the serving processes themselves; in the server of a network HSM. */
  readonly shim: FaultShim;
  /** `null` of a token that is reached without one. */
  readonly network: NetworkHsm | null;
  /** CKA_ID of the customer's key, hexadecimal. */
  readonly keyId: string;
  deleteKey(): void;
  /** The same bytes under the same CKA_ID. */
  createKey(): void;
}

export interface HsmKind {
  readonly profile: string;
  readonly rule: string;
}

export interface FaultContext {
  readonly token: FaultyToken;
  /** Of the tokens besides. */
  readonly otherShims: readonly FaultShim[];
  readonly load: LoadClient;
  /** Requests a second, of the load. */
  readonly rate: number;
  readonly servingProcesses: number;
  /** Why the token is not in use, as `xksctl status` says it; `null` while it is. */
  whyUnavailable(): Promise<string | null>;
  /** `xksctl hsm probe --accept` of the token. */
  accept(): Promise<void>;
  /** Process ids of the serving processes, as they are now. */
  servingPids(): Promise<readonly number[]>;
}

/** What is allowed while the fault is there and another token is well (the fault matrix). */
export interface Allowed {
  readonly failed: number;
  /** p99 of all answers must be below. */
  readonly p99Ms: number;
}

export interface FaultCase {
  readonly name: string;
  /** What breaks, as the table says it. */
  readonly fault: string;
  readonly reached: 'directly' | 'over-network';
  /** Of each serving process, on each token; without it, as many as the product takes by itself. */
  readonly sessions?: number;
  /** What kind of HSM the tokens are: its profile, and the line of rules that makes the shim one. */
  readonly hsm?: HsmKind;
  readonly allowed: Allowed;
  /** Whether the token is well all the same, so that even a single one may fail nothing. */
  readonly harmless?: boolean;
  /** Whether no token is left, however many there are. */
  readonly breaksAll?: boolean;
  /** What is to be of the requests all the same, where there is room for some of them only. */
  readonly overload?: {
    /** PKCS#11 calls of a request, on average. */
    readonly callsEach: number;
    /** The least share of what the tokens can do that is served, 0 to 1. */
    readonly capacityShareMin: number;
    /** p99 of those that are served, and of those that are refused, must be below. */
    readonly servedP99Ms: number;
    readonly refusedP99Ms: number;
  };
  begin(context: FaultContext): Promise<void> | void;
  /** Every second while the fault is there, after `begin`. */
  again?(context: FaultContext): Promise<void> | void;
  /** Mends what `begin` broke; then the shim stops doing anything. */
  end?(context: FaultContext): Promise<void> | void;
  /** Mends what is to stay broken until all has been well again with the first token. */
  after?(context: FaultContext): Promise<void> | void;
}
