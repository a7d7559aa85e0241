import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { type CryptoPool, type CryptoPoolOptions, openCryptoPool } from '../../src/hsm/crypto-pool.js';
import type { EncryptOperation, KeyObject, Witness } from '../../src/hsm/types.js';
import { witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';
import type { LoggedInToken } from './logged-in-token.js';

/** A deadline far enough never to matter. */
export const farDeadline = (): number => systemClock.monotonicMs() + 30_000;

/** AES-256-GCM by another implementation. */
export function seal(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Witness {
  const cipher = createCipheriv('aes-256-gcm', key, iv);
  cipher.setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return { iv, ciphertext, tag: cipher.getAuthTag() };
}

/** The inverse of `seal`; throws where the tag is wrong. */
export function unseal(key: Uint8Array, sealed: Witness, aad: Uint8Array): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.iv);
  decipher.setAAD(aad);
  decipher.setAuthTag(sealed.tag);
  return Buffer.concat([decipher.update(sealed.ciphertext), decipher.final()]);
}

/** A key on the token whose bytes the test knows, with its witness. */
export interface KnownKey {
  readonly bytes: Buffer;
  readonly object: KeyObject;
}

export function importKnownKey(token: LoggedInToken): KnownKey {
  const bytes = randomBytes(32);
  const id = token.importKey(bytes, randomBytes(16).toString('hex'));
  return {
    bytes,
    object: { objectId: id, witness: seal(bytes, randomBytes(12), witnessAad, witnessPlaintext) },
  };
}

/** A pool, closed after the test. A loss of its sessions fails the test unless it is expected. */
export async function startPool(
  t: Pick<Test, 'teardown' | 'fail'>,
  token: Pick<LoggedInToken, 'modulePath' | 'initArgs' | 'slotId'>,
  sessions: number,
  onSessionsLost: (rv: string) => void = (rv) => t.fail(`sessions lost: ${rv}`),
  workers = 1,
  onUnsafeIv: () => void = () => t.fail('an IV that must not be used'),
  more: Partial<Pick<CryptoPoolOptions, 'sessionIdleMs' | 'clock'>> = {},
): Promise<CryptoPool> {
  const opened = await openCryptoPool({
    ...token,
    workers,
    sessionsMax: sessions,
    witness: { plaintext: witnessPlaintext, gcmAad: witnessAad },
    clock: systemClock,
    onSessionsLost,
    onUnsafeIv,
    ...more,
  });
  if (!opened.ok) throw new Error(`no pool: ${JSON.stringify(opened.error)}`);
  t.teardown(() => opened.value.close());
  return opened.value;
}

/** An encrypt of random data as the XKS pipeline asks for it. */
export const encryption = (key: KeyObject, changes: Partial<EncryptOperation> = {}): EncryptOperation => ({
  key,
  plaintext: randomBytes(32),
  gcmAad: randomBytes(50),
  integrityPrefix: randomBytes(40),
  verify: true,
  ...changes,
});
