import { randomBytes } from 'node:crypto';
import pkcs11js from 'pkcs11js';
import { encodeHex } from '../base/bytes.js';
import { loadNativeBinding } from '../base/native.js';

/** A key object that can do only part of what KMS wants; the daemon itself never makes such keys. */
export interface PartialKey {
  readonly label: string;
  readonly encrypt: boolean;
  readonly decrypt: boolean;
}

export interface TokenAccess {
  readonly modulePath: string;
  readonly initArgs: string;
  readonly tokenLabel: string;
  readonly pin: string;
}

/**
 * Makes AES-256 keys on the token as an HSM's administrator would, outside xksd, and answers their CKA_IDs
 * (hexadecimal) in the order given. Sensitive, not extractable.
 */
export function makePartialKeys(access: TokenAccess, keys: readonly PartialKey[]): readonly string[] {
  return withSession(access, (module, session) =>
    keys.map(({ label, encrypt, decrypt }) => {
      const id = randomBytes(16);
      module.C_GenerateKey(session, { mechanism: pkcs11js.CKM_AES_KEY_GEN }, [
        { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
        { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_AES },
        { type: pkcs11js.CKA_VALUE_LEN, value: 32 },
        { type: pkcs11js.CKA_LABEL, value: label },
        { type: pkcs11js.CKA_ID, value: id },
        { type: pkcs11js.CKA_TOKEN, value: true },
        { type: pkcs11js.CKA_PRIVATE, value: true },
        { type: pkcs11js.CKA_SENSITIVE, value: true },
        { type: pkcs11js.CKA_EXTRACTABLE, value: false },
        { type: pkcs11js.CKA_ENCRYPT, value: encrypt },
        { type: pkcs11js.CKA_DECRYPT, value: decrypt },
        { type: pkcs11js.CKA_SIGN, value: false },
        { type: pkcs11js.CKA_VERIFY, value: false },
        { type: pkcs11js.CKA_WRAP, value: !encrypt && !decrypt },
        { type: pkcs11js.CKA_UNWRAP, value: false },
      ]);
      return encodeHex(id);
    }),
  );
}

/** Deletes the objects with these CKA_IDs: only what this demo made. */
export function deleteObjects(access: TokenAccess, objectIds: readonly string[]): void {
  withSession(access, (module, session) => {
    for (const objectId of objectIds) {
      module.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_ID, value: Buffer.from(objectId, 'hex') }]);
      const found = module.C_FindObjects(session, 16);
      module.C_FindObjectsFinal(session);
      for (const object of found) module.C_DestroyObject(session, object);
    }
  });
}

function withSession<T>(access: TokenAccess, use: (module: pkcs11js.PKCS11, session: Buffer) => T): T {
  const native = loadNativeBinding();
  // First, so that the module binds its own OpenSSL and not the one that Node exports.
  const { rv, functionName, message } = native.loadPkcs11Module(access.modulePath, access.initArgs);
  if (rv !== 'CKR_OK') {
    const why = message ?? `${functionName ?? 'C_Initialize'} answered ${rv ?? 'nothing'}`;
    throw new Error(`the PKCS#11 module could not be loaded: ${why}; --module names it`);
  }
  const module = new pkcs11js.PKCS11();
  module.load(access.modulePath);
  try {
    const slots = module.C_GetSlotList(true);
    const slot = slots.find(
      (candidate) => module.C_GetTokenInfo(candidate).label.trim() === access.tokenLabel,
    );
    if (slot === undefined) {
      const seen = slots.map((candidate) => JSON.stringify(module.C_GetTokenInfo(candidate).label.trim()));
      throw new Error(
        `${access.modulePath} shows no token labelled "${access.tokenLabel}" (it shows ${seen.join(', ') || 'none'}); ` +
          'for a token of your own give --token LABEL and --pin-file FILE',
      );
    }
    const session = module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
    try {
      module.C_Login(session, pkcs11js.CKU_USER, access.pin);
      return use(module, session);
    } finally {
      module.C_CloseSession(session);
    }
  } finally {
    native.releasePkcs11Module(access.modulePath);
  }
}
