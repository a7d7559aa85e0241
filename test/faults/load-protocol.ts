import type { XksAccess } from '../../bench/driver/prepared-requests.js';

/** What the load of a fault matrix is, for as long as it runs. */
export interface LoadPlan {
  readonly url: string;
  /** PEM. */
  readonly ca: string;
  readonly access: XksAccess;
  /** The bytes of the key, hexadecimal: what is decrypted was encrypted without the proxy, and its encrypts are opened without it. */
  readonly keyHex: string;
  /** Requests a second, half of them encrypts. */
  readonly rate: number;
}

/** A stretch of time, milliseconds of the Unix epoch. */
export interface Stretch {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** Of the requests that were due within a stretch. Milliseconds from when they were due. */
export interface StretchReport {
  readonly seconds: number;
  readonly requests: number;
  /** 429, 5xx, or no answer. */
  readonly failed: number;
  /** Answers of any kind after more than 250 ms, and what was never answered. */
  readonly late: number;
  readonly wrong: number;
  /** Of all answers, those that were right, and those with 429; `NaN` of none. */
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly servedP99Ms: number;
  readonly refusedP99Ms: number;
  /** What was said, how often; without what was right. */
  readonly said: Readonly<Record<string, number>>;
  /** Sent late because the load's own process did not run: on such a machine late answers say nothing of the node. */
  readonly sentLate: number;
}

export type LoadCommand =
  | { readonly kind: 'start'; readonly plan: LoadPlan }
  /** From now on so many of the decrypts, 0 to 1, carry another AAD than their encrypt did. */
  | { readonly kind: 'spoil'; readonly share: number }
  | { readonly kind: 'last-failure' }
  | { readonly kind: 'report'; readonly stretch: Stretch };

/** One for each command. */
export type LoadReply =
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly message: string }
  /** When the last answer came that was not right; milliseconds of the Unix epoch, 0 for none. */
  | { readonly kind: 'last-failure'; readonly atMs: number }
  | { readonly kind: 'report'; readonly report: StretchReport };
