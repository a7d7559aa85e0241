import { equalInConstantTime, wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { type HealthCheck, healthDeadlineMs } from './token-health.js';
import type { HsmCrypto, HsmFailure, KeyObject } from './types.js';
import { witnessAad, witnessPlaintext } from './witness.js';

/** A check that failed. */
export type FailedCheck = HealthCheck & {
  readonly kind: 'failed';
  /**
   * Whether opening the module anew may cure it. `soon`: the token answered with an error of its own. `later`: it is
   * well, but without the key, which some modules see again only after C_Initialize; more likely somebody removed it.
   * `never`: a call hangs, or we are at fault.
   */
  readonly worthReopening: 'soon' | 'later' | 'never';
};

const checkPlaintext = Buffer.alloc(32, 0x5a);
const checkFailed = 'the check on its test key failed';
const checkAad = Buffer.from('xksd health check', 'latin1');

/**
 * X-H3: real cryptography on a key of its own. An encrypt, and the decrypt of what came out; and of the key's witness, as
 * both of them go well with any key. A token that has numbered its objects anew is found out by that: the pool then finds
 * every key again before it uses it.
 */
export async function checkTestKey(
  crypto: HsmCrypto,
  key: KeyObject,
  clock: Clock,
): Promise<Exclude<HealthCheck, { readonly kind: 'failed' }> | FailedCheck> {
  const startMs = clock.monotonicMs();
  const deadlineMs = startMs + healthDeadlineMs;
  const encrypted = await crypto.encrypt(
    { key, plaintext: checkPlaintext, gcmAad: checkAad, integrityPrefix: null, verify: false },
    deadlineMs,
  );
  if (!encrypted.ok) return outcome(encrypted.error, 'encrypt', key, clock);
  const { iv, ciphertext, tag } = encrypted.value;
  const decrypted = await crypto.decrypt({ key, ciphertext, gcmAad: checkAad, iv, tag }, deadlineMs);
  if (!decrypted.ok) return outcome(decrypted.error, 'decrypt', key, clock);
  let same = equalInConstantTime(decrypted.value, checkPlaintext);
  wipe(decrypted.value);
  if (same && key.witness !== null) {
    const witnessed = await crypto.decrypt({ key, gcmAad: witnessAad, ...key.witness }, deadlineMs);
    if (!witnessed.ok) return outcome(witnessed.error, 'decrypt of its witness', key, clock);
    same = equalInConstantTime(witnessed.value, witnessPlaintext);
  }
  const atMs = clock.monotonicMs();
  return same
    ? { kind: 'passed', atMs, tookMs: atMs - startMs }
    : {
        kind: 'failed',
        atMs,
        reason: `${checkFailed}: it decrypted to something else`,
        worthReopening: 'soon',
      };
}

function outcome(
  failure: HsmFailure,
  operation: 'encrypt' | 'decrypt' | 'decrypt of its witness',
  key: KeyObject,
  clock: Clock,
): FailedCheck | (HealthCheck & { readonly kind: 'busy' }) {
  const atMs = clock.monotonicMs();
  if (failure.kind === 'overloaded') return { kind: 'busy', atMs };
  if (failure.kind === 'key-lost') {
    const reason =
      `the test key (CKA_ID ${key.objectId}) is no longer on the token, or is another key; ` +
      'if it does not come back, run: xksctl hsm prepare';
    return { kind: 'failed', atMs, reason, worthReopening: 'later' };
  }
  const said =
    failure.rv === null ? failure.kind : `${failure.functionName ?? failure.kind} returned ${failure.rv}`;
  return {
    kind: 'failed',
    atMs,
    reason: `${checkFailed}: ${operation}: ${said}`,
    worthReopening: failure.kind === 'failed' || failure.kind === 'bad-ciphertext' ? 'soon' : 'never',
  };
}
