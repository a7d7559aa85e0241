import t from 'tap';
import { loadNativeBinding, type RvClass } from '../../src/base/native.js';

const native = loadNativeBinding();

/** The table of truthful errors (X-X2), row by row: what each `rv` means in an encrypt and in a decrypt. */
const rows: readonly (readonly [rv: number, name: string, encrypt: RvClass, decrypt: RvClass])[] = [
  [0x000, 'CKR_OK', 'ok', 'ok'],
  [0x002, 'CKR_HOST_MEMORY', 'failed', 'failed'],
  [0x003, 'CKR_SLOT_ID_INVALID', 'login-lost', 'login-lost'],
  [0x005, 'CKR_GENERAL_ERROR', 'failed', 'ambiguous'],
  [0x006, 'CKR_FUNCTION_FAILED', 'failed', 'ambiguous'],
  [0x007, 'CKR_ARGUMENTS_BAD', 'failed', 'ambiguous'],
  [0x020, 'CKR_DATA_INVALID', 'failed', 'ambiguous'],
  [0x021, 'CKR_DATA_LEN_RANGE', 'failed', 'ambiguous'],
  [0x030, 'CKR_DEVICE_ERROR', 'device', 'device'],
  [0x031, 'CKR_DEVICE_MEMORY', 'device', 'device'],
  [0x032, 'CKR_DEVICE_REMOVED', 'login-lost', 'login-lost'],
  [0x040, 'CKR_ENCRYPTED_DATA_INVALID', 'failed', 'bad-ciphertext'],
  [0x041, 'CKR_ENCRYPTED_DATA_LEN_RANGE', 'failed', 'ambiguous'],
  [0x042, 'CKR_AEAD_DECRYPT_FAILED', 'failed', 'bad-ciphertext'],
  [0x054, 'CKR_FUNCTION_NOT_SUPPORTED', 'failed', 'failed'],
  [0x060, 'CKR_KEY_HANDLE_INVALID', 'handle-stale', 'handle-stale'],
  [0x063, 'CKR_KEY_TYPE_INCONSISTENT', 'failed', 'failed'],
  [0x068, 'CKR_KEY_FUNCTION_NOT_PERMITTED', 'failed', 'failed'],
  [0x070, 'CKR_MECHANISM_INVALID', 'failed', 'failed'],
  [0x071, 'CKR_MECHANISM_PARAM_INVALID', 'failed', 'ambiguous'],
  [0x082, 'CKR_OBJECT_HANDLE_INVALID', 'handle-stale', 'handle-stale'],
  [0x090, 'CKR_OPERATION_ACTIVE', 'session-lost', 'session-lost'],
  [0x091, 'CKR_OPERATION_NOT_INITIALIZED', 'session-lost', 'session-lost'],
  [0x0a3, 'CKR_PIN_EXPIRED', 'login-lost', 'login-lost'],
  [0x0b0, 'CKR_SESSION_CLOSED', 'session-lost', 'session-lost'],
  [0x0b1, 'CKR_SESSION_COUNT', 'device', 'device'],
  [0x0b3, 'CKR_SESSION_HANDLE_INVALID', 'session-lost', 'session-lost'],
  [0x0e0, 'CKR_TOKEN_NOT_PRESENT', 'login-lost', 'login-lost'],
  [0x0e1, 'CKR_TOKEN_NOT_RECOGNIZED', 'login-lost', 'login-lost'],
  [0x101, 'CKR_USER_NOT_LOGGED_IN', 'login-lost', 'login-lost'],
  [0x121, 'CKR_RANDOM_NO_RNG', 'failed', 'failed'],
  [0x150, 'CKR_BUFFER_TOO_SMALL', 'failed', 'failed'],
  [0x190, 'CKR_CRYPTOKI_NOT_INITIALIZED', 'login-lost', 'login-lost'],
  [0x201, 'CKR_TOKEN_RESOURCE_EXCEEDED', 'device', 'device'],
  [0x7777, 'CKR_0x7777', 'failed', 'ambiguous'],
  [0x80000101, 'CKR_VENDOR_DEFINED+0x101', 'failed', 'ambiguous'],
];

t.test('every row of the table, with the name verbatim (X-X2)', async (t) => {
  for (const [rv, name, encrypt, decrypt] of rows) {
    t.strictSame(
      [
        native.pkcs11RvName(rv),
        native.classifyPkcs11Rv(rv, 'encrypt'),
        native.classifyPkcs11Rv(rv, 'decrypt'),
      ],
      [name, encrypt, decrypt],
      name,
    );
  }
});

t.test(
  'nothing but two codes calls a ciphertext bad by itself, and no encrypt ever does (X-X2)',
  async (t) => {
    const bad: string[] = [];
    for (let rv = 0; rv < 0x300; rv++) {
      t.not(native.classifyPkcs11Rv(rv, 'encrypt'), 'bad-ciphertext');
      if (native.classifyPkcs11Rv(rv, 'decrypt') === 'bad-ciphertext') bad.push(native.pkcs11RvName(rv));
    }
    t.strictSame(bad, ['CKR_ENCRYPTED_DATA_INVALID', 'CKR_AEAD_DECRYPT_FAILED']);
  },
);
