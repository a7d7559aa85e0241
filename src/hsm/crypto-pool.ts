import type { Clock } from '../base/clock.js';
import { err, type Result } from '../base/result.js';
import type { HsmCrypto, HsmFailure, KeyObject } from './types.js';

export interface CryptoPoolOptions {
  /** The module's path, already loaded through `loadPkcs11Module`. */
  readonly modulePath: string;
  readonly initArgs: string;
  readonly slotId: bigint;
  /** Piscina workers (threads). */
  readonly workers: number;
  /** Sessions per worker. 1: blocking calls on the worker's thread. More: a native thread for each. */
  readonly sessions: number;
  /** What every witness is made of: its plaintext and its AAD. */
  readonly witness: { readonly plaintext: Uint8Array; readonly gcmAad: Uint8Array };
  readonly clock: Clock;
  /**
   * Called once when the login is gone, the token removed or the module finalised, with the `CKR_…` that said so.
   * From then on operations fail with `token-unavailable` until the owner has logged in again and called `resume`.
   */
  readonly onSessionsLost: (rv: string) => void;
}

export interface CryptoPoolStats {
  readonly sessions: number;
  readonly cells: number;
  /** Cells with an operation or an abandoned call in them. */
  readonly cellsInUse: number;
  /** Cells whose request was answered at its deadline while the call is still out. */
  readonly stuckCells: number;
  /** Operations waiting for a worker. */
  readonly queued: number;
  /** Operations handed to workers. */
  readonly inFlight: number;
  /** Since the pool was opened. */
  readonly operations: number;
  /** PKCS#11 calls those operations took, prefetched randomness and finds included. */
  readonly roundTrips: number;
  /** Microseconds an operation spends in the module, recent average; 0 before the first. */
  readonly operationMicros: number;
}

/** The cryptography of one token over its logged-in sessions. */
export interface CryptoPool extends HsmCrypto {
  stats(): CryptoPoolStats;
  /** The key whose witness tells an ill token from a bad ciphertext when the caller's key has no witness. */
  setCanary(key: KeyObject | null): void;
  /** Opens the sessions again after a new login; every cached key handle is found and witnessed anew. */
  resume(): Promise<Result<void, HsmFailure>>;
  /** Waits for what is out (bounded), closes the sessions, ends the workers. Later operations fail. */
  close(): Promise<void>;
}

/** Starts the workers and opens their sessions; fails when the first of them cannot. */
export async function openCryptoPool(_options: CryptoPoolOptions): Promise<Result<CryptoPool, HsmFailure>> {
  return err({ kind: 'failed', rv: null, functionName: null });
}
