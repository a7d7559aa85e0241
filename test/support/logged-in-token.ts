import pkcs11js from 'pkcs11js';
import type { Test } from 'tap';
import { invariant } from '../../src/base/guards.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { type ObjectId, objectId } from '../../src/hsm/types.js';
import { knownAesKey } from './known-aes-key.js';

/** What this needs of a token: `makeSoftHsmToken` and `makeNssToken` give it. */
export interface TokenAccess {
  readonly modulePath: string;
  readonly initArgs: string;
  readonly label: string;
  readonly pin: string;
}

/** A token that this process is logged in to, with a session of the test's own. */
export interface LoggedInToken {
  readonly modulePath: string;
  readonly initArgs: string;
  readonly slotId: bigint;
  /** Puts an AES-256 key with known bytes on the token, for as long as the token lives. */
  importKey(bytes: Uint8Array, idHex: string): ObjectId;
  destroyKeys(id: ObjectId): void;
  /** Ends every session of this process on the token, and so the login. */
  closeAllSessions(): void;
  logIn(): void;
}

/** Loads the module through our addon first, as the serving process does, and logs in. Undone after the test. */
export function logIn(t: Pick<Test, 'teardown'>, access: TokenAccess): LoggedInToken {
  const binding = loadNativeBinding();
  const loaded = binding.loadPkcs11Module(access.modulePath, access.initArgs);
  invariant(loaded.rv === 'CKR_OK', `cannot load the module: ${JSON.stringify(loaded)}`);
  const module = new pkcs11js.PKCS11();
  module.load(access.modulePath);
  const slot = module
    .C_GetSlotList(true)
    .find((candidate) => module.C_GetTokenInfo(candidate).label.trim() === access.label);
  invariant(slot !== undefined, `no token ${access.label}`);
  let session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  module.C_Login(session, pkcs11js.CKU_USER, access.pin);
  t.teardown(() => {
    module.C_CloseAllSessions(slot);
    module.close();
    binding.releasePkcs11Module(access.modulePath);
  });
  return {
    modulePath: access.modulePath,
    initArgs: access.initArgs,
    slotId: slot.readBigUInt64LE(),
    importKey(bytes, idHex) {
      module.C_CreateObject(session, knownAesKey(idHex, `test ${idHex.slice(0, 8)}`, bytes));
      return objectId(idHex);
    },
    destroyKeys(id) {
      module.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_ID, value: Buffer.from(id, 'hex') }]);
      const found = module.C_FindObjects(session, 10);
      module.C_FindObjectsFinal(session);
      for (const handle of found) module.C_DestroyObject(session, handle);
    },
    closeAllSessions() {
      module.C_CloseAllSessions(slot);
    },
    logIn() {
      session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
      module.C_Login(session, pkcs11js.CKU_USER, access.pin);
    },
  };
}
