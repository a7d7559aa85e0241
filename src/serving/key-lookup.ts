import { err, ok, type Result } from '../base/result.js';
import { type KeyObject, objectId } from '../hsm/types.js';
import type { Key, KeyStateQueries, KeyVersion } from '../keystate/types.js';
import { type XksError, xksError } from '../xks/errors.js';

/** Key state, and whether it is known to be up to date. */
export interface Known {
  readonly state: KeyStateQueries;
  /** Whether what is unknown here is unknown everywhere. Asked for only where something is unknown: it reads a clock. */
  readonly isCurrent: boolean;
}

/**
 * The answer about something that key state does not know: `definite` where this node would know of it, else 503. KMS
 * takes a 401 or 404 for the truth and doesn't ask again (replication.md, _A stale node must not lie_).
 */
export const unknownHere = (isCurrent: boolean, definite: XksError): XksError =>
  isCurrent
    ? definite
    : xksError(
        'DependencyTimeoutException',
        'This node does not know what was asked for, and its key state may be out of date.',
      );

/** Whether a key store serves anything at all: a disabled one answers every API so, health included. */
export function checkKeyStore(known: Known, name: string): XksError | null {
  const keyStore = known.state.keyStore(name);
  if (keyStore === null) {
    return unknownHere(
      known.isCurrent,
      xksError('InvalidUriPathException', 'No key store has this URI path prefix.'),
    );
  }
  return keyStore.status === 'ENABLED'
    ? null
    : xksError('InvalidStateException', `The key store ${name} is disabled.`);
}

/** A key as key state knows it, whatever its status (X-K2). 404 only for what key state does not know (X-X2). */
export function findKey(known: Known, keyStore: string, externalKeyId: string): Result<Key, XksError> {
  const key = known.state.key(keyStore, externalKeyId);
  if (key !== null) return ok(key);
  const definite = xksError('KeyNotFoundException', `The key store ${keyStore} has no key ${externalKeyId}.`);
  return err(unknownHere(known.isCurrent, definite));
}

/** A key that may be used now: it, and its key store, enabled. */
export function findUsableKey(known: Known, keyStore: string, externalKeyId: string): Result<Key, XksError> {
  const fault = checkKeyStore(known, keyStore);
  if (fault !== null) return err(fault);
  const key = findKey(known, keyStore, externalKeyId);
  if (!key.ok || key.value.status === 'ENABLED') return key;
  return err(xksError('InvalidStateException', `The key ${externalKeyId} is disabled.`));
}

/** Decided from the attributes pinned at registration, never from what the HSM says when tried (X-E4). */
export function requireUsage(key: Key, usage: 'ENCRYPT' | 'DECRYPT', purpose: string): XksError | null {
  return key.usage.includes(usage)
    ? null
    : xksError(
        'InvalidKeyUsageException',
        `The key ${key.externalKeyId} may not ${usage.toLowerCase()}${purpose}.`,
      );
}

/** A version of the key that is enabled; `null` when the key has no version of that number. */
export function findUsableVersion(key: Key, versionNumber: number): Result<KeyVersion, XksError> | null {
  // Versions count from 1 without gaps as far as key state makes them; the search covers what it may make one day.
  const expected = key.versions[versionNumber - 1];
  const version =
    expected?.version === versionNumber
      ? expected
      : key.versions.find((candidate) => candidate.version === versionNumber);
  if (version === undefined) return null;
  return version.status === 'ENABLED'
    ? ok(version)
    : err(
        xksError(
          'InvalidStateException',
          `Version ${versionNumber} of the key ${key.externalKeyId} is disabled.`,
        ),
      );
}

/** Asked after the HSM has answered: whoever disabled the key meanwhile gets no further answer made with it. */
export function checkStillUsable(
  known: Known,
  keyStore: string,
  externalKeyId: string,
  used: KeyVersion,
): XksError | null {
  const key = findUsableKey(known, keyStore, externalKeyId);
  if (!key.ok) return key.error;
  const version = findUsableVersion(key.value, used.version);
  if (version !== null && !version.ok) return version.error;
  return version?.value.objectId === used.objectId
    ? null
    : xksError('InternalException', `The key ${externalKeyId} changed while it was used.`);
}

export function keyObjectOf(version: KeyVersion): KeyObject {
  const { witness } = version;
  return {
    objectId: objectId(version.objectId),
    witness:
      witness === null ? null : { iv: witness.nonce, ciphertext: witness.ciphertext, tag: witness.tag },
  };
}
