import type { Clock } from '../../base/clock.js';
import type { Result } from '../../base/result.js';
import type { CryptoPool } from '../crypto-pool.js';
import type { HsmFailure, KeyObject } from '../types.js';
import type { TrialAnswer, Trials } from './probe.js';

/** For one call: a token that takes longer is not well enough to be judged. */
const trialMsMax = 2_000;

/** Puts the cases of a probe to a token, under its test key. */
export function poolTrials(
  pool: Pick<CryptoPool, 'tryEncrypt' | 'tryDecrypt'>,
  testKey: KeyObject,
  clock: Clock,
): Trials {
  const deadlineMs = (): number => clock.monotonicMs() + trialMsMax;
  return {
    encrypt: async (form, plaintext, gcmAad) => {
      const operation = { key: testKey, plaintext, gcmAad, integrityPrefix: null, verify: false };
      return answerOf(await pool.tryEncrypt(form, operation, deadlineMs()), 'encrypt');
    },
    decrypt: async (form, sealed, gcmAad) =>
      answerOf(await pool.tryDecrypt(form, { ...sealed, key: testKey, gcmAad }, deadlineMs()), 'decrypt'),
  };
}

function answerOf<T>(result: Result<T, HsmFailure>, operation: 'encrypt' | 'decrypt'): TrialAnswer<T> {
  if (result.ok) return { kind: 'done', value: result.value };
  const { kind, rv, functionName } = result.error;
  if (kind === 'unsafe-iv') return { kind: 'unsafe-iv' };
  // A token may well call a bad tag an error of the device: the good case after it tells.
  const isWord =
    kind === 'failed' || (kind === 'token-unavailable' && operation === 'decrypt' && rv !== null);
  return isWord && functionName !== null
    ? { kind: 'refused', rv, functionName }
    : { kind: 'unreachable', reason: rv === null ? kind : `${functionName ?? kind} returned ${rv}` };
}
