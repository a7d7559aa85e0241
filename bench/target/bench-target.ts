import type { XksAccess } from '../driver/prepared-requests.js';

/** A proxy to be measured. */
export interface BenchTarget {
  readonly name: string;
  readonly urls: readonly string[];
  /** PEM; `null`: the authorities that Node trusts. */
  readonly ca: string | null;
  readonly access: XksAccess;
  /** Processes whose CPU and memory are its, with their children; empty where it runs elsewhere. */
  readonly pids: readonly number[];
  /** Of a proxy of ours. */
  readonly adminSocket: string | null;
  stop(): Promise<void>;
}
