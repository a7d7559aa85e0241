import pkcs11js from 'pkcs11js';

/** The template by which C_CreateObject makes an AES-256 key of bytes that the test knows. */
export const knownAesKey = (idHex: string, label: string, bytes: Uint8Array): pkcs11js.Template => [
  { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
  { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_AES },
  { type: pkcs11js.CKA_TOKEN, value: true },
  { type: pkcs11js.CKA_PRIVATE, value: true },
  { type: pkcs11js.CKA_SENSITIVE, value: true },
  { type: pkcs11js.CKA_EXTRACTABLE, value: false },
  { type: pkcs11js.CKA_ENCRYPT, value: true },
  { type: pkcs11js.CKA_DECRYPT, value: true },
  { type: pkcs11js.CKA_ID, value: Buffer.from(idHex, 'hex') },
  { type: pkcs11js.CKA_LABEL, value: label },
  { type: pkcs11js.CKA_VALUE, value: Buffer.from(bytes) },
];
