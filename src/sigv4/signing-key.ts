import { createHmac } from 'node:crypto';
import { wipe } from '../base/bytes.js';
import { type CredentialScope, formatCredential } from './authorization.js';

const signingKeysMax = 16_384;

/** HMAC-SHA-256 (RFC 2104), 32 bytes. */
export function hmacSha256(key: Uint8Array, message: string): Buffer {
  return createHmac('sha256', key).update(message).digest();
}

/** The key (32 bytes) that signs for one day, region and service: four HMACs. */
export function deriveSigningKey(secretAccessKey: Uint8Array, scope: CredentialScope): Uint8Array {
  const secretKey = Buffer.concat([Buffer.from('AWS4'), secretAccessKey]);
  const dateKey = hmacSha256(secretKey, scope.date);
  const regionKey = hmacSha256(dateKey, scope.region);
  const serviceKey = hmacSha256(regionKey, scope.service);
  const signingKey = hmacSha256(serviceKey, 'aws4_request');
  for (const key of [secretKey, dateKey, regionKey, serviceKey]) wipe(key);
  return signingKey;
}

/**
 * Signing keys of requests that were authentic, the oldest dropped first. Only a success enters (X-A3), so nobody
 * without a secret can fill it.
 */
export class SigningKeyCache {
  readonly #signingKeys = new Map<string, Uint8Array>();
  readonly #entriesMax: number;

  /** @param entriesMax ≥ 1 */
  constructor(entriesMax: number = signingKeysMax) {
    this.#entriesMax = entriesMax;
  }

  get size(): number {
    return this.#signingKeys.size;
  }

  /** @param credential `<access key id>/<scope>`, in one piece as it comes: this is asked with every request. */
  find(credential: string): Uint8Array | null {
    return this.#signingKeys.get(credential) ?? null;
  }

  /** Takes over `signingKey` and wipes it when it is dropped. */
  remember(accessKeyId: string, scope: CredentialScope, signingKey: Uint8Array): void {
    const name = formatCredential(accessKeyId, scope);
    this.#drop(name);
    if (this.#signingKeys.size >= this.#entriesMax) {
      // A Map lists what came first first.
      for (const oldest of this.#signingKeys.keys()) {
        this.#drop(oldest);
        break;
      }
    }
    this.#signingKeys.set(name, signingKey);
  }

  /** To be called when a credential is retired or its key store goes. */
  forget(accessKeyId: string): void {
    for (const name of this.#signingKeys.keys()) {
      if (name.startsWith(`${accessKeyId}/`)) this.#drop(name);
    }
  }

  #drop(name: string): void {
    const signingKey = this.#signingKeys.get(name);
    if (signingKey !== undefined) wipe(signingKey);
    this.#signingKeys.delete(name);
  }
}
