import type { LoadResult, LoadShape } from './load-run.js';
import type { HttpVersion, XksAccess } from './prepared-requests.js';
import type { BodyShape } from './xks-messages.js';

/** What a driver is told once. */
export interface DriverPlan {
  /** `https://host:port`, or `http:`; connections are spread evenly over them. */
  readonly urls: readonly string[];
  /** PEM; `null`: the authorities that Node trusts. */
  readonly ca: string | null;
  readonly http: HttpVersion;
  readonly connections: number;
  /** Requests on the way at once on an HTTP/2 connection; 1 on HTTP/1.1. */
  readonly streams: number;
  readonly access: XksAccess;
  readonly bodies: BodyShape;
  /** Share of Encrypt among all, 0 to 1; the rest is Decrypt. */
  readonly encryptShare: number;
}

/** How a sample of answered encrypts fared when it was decrypted through the API. */
export interface Verification {
  readonly verified: number;
  readonly wrong: number;
  readonly firstFault: string | null;
}

export interface DriverResult {
  readonly load: LoadResult;
  readonly verification: Verification;
}

/** To the driver. */
export type DriverCommand =
  | { readonly kind: 'prepare'; readonly plan: DriverPlan }
  | { readonly kind: 'run'; readonly shape: LoadShape }
  | { readonly kind: 'verify' };

/** From it, one for each command. `loaded` comes as soon as the load has ended, before samples are looked at. */
export type DriverReport =
  | { readonly kind: 'prepared'; readonly signedRequests: number; readonly signingMicros: number }
  | { readonly kind: 'loaded'; readonly load: LoadResult }
  | { readonly kind: 'verified'; readonly verification: Verification }
  | { readonly kind: 'failed'; readonly message: string };
