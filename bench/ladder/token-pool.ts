import pkcs11js from 'pkcs11js';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { type CryptoPool, openCryptoPool } from '../../src/hsm/crypto-pool.js';
import { objectId, type Witness } from '../../src/hsm/types.js';
import { makeWitness, witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';
import type { LadderToken } from './rungs.js';

/** A token with a pool on it, and the witness of its key. */
export interface OpenToken {
  readonly pool: CryptoPool;
  readonly witness: Witness;
}

const openWithinMs = 10_000;
const sessionsMax = 64;

/** Slot of a token after logging in to it; the session that keeps the login stays open until the process ends. */
export function logIn(token: LadderToken): bigint {
  // First, so that the module binds its own OpenSSL and not the one that Node exports.
  const loaded = loadNativeBinding().loadPkcs11Module(token.modulePath, '');
  if (loaded.rv !== 'CKR_OK') throw new Error(`cannot load ${token.modulePath}: ${JSON.stringify(loaded)}`);
  const module = new pkcs11js.PKCS11();
  module.load(token.modulePath);
  const slot = module
    .C_GetSlotList(true)
    .find((one) => module.C_GetTokenInfo(one).label.trim() === token.label);
  if (slot === undefined) throw new Error(`no token ${token.label}`);
  const session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  module.C_Login(session, pkcs11js.CKU_USER, token.pin);
  return slot.readBigUInt64LE();
}

/** The pool of a serving process as it is by default. `slotId`: from `logIn`. */
export async function openToken(token: LadderToken, slotId: bigint): Promise<OpenToken> {
  const opened = await openCryptoPool({
    modulePath: token.modulePath,
    initArgs: '',
    slotId,
    workers: 1,
    sessionsMax,
    witness: { plaintext: witnessPlaintext, gcmAad: witnessAad },
    clock: systemClock,
    onSessionsLost: (rv) => {
      throw new Error(`the sessions were lost: ${rv}`);
    },
    onUnsafeIv: () => {
      throw new Error('the token made an IV that must not be used');
    },
  });
  if (!opened.ok) throw new Error(`no pool: ${JSON.stringify(opened.error)}`);
  const pool = opened.value;
  const witness = await makeWitness(pool, objectId(token.objectId), systemClock.monotonicMs() + openWithinMs);
  if (!witness.ok) throw new Error(`no witness: ${JSON.stringify(witness.error)}`);
  return { pool, witness: witness.value };
}
