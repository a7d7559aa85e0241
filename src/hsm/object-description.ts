import pkcs11js from 'pkcs11js';
import type { ObjectDescription } from './management-protocol.js';

/** X-K1's words for the attributes that allow a use, in the order of the specification. */
const usageAttributes: readonly (readonly [usage: string, attribute: number])[] = [
  ['ENCRYPT', pkcs11js.CKA_ENCRYPT],
  ['DECRYPT', pkcs11js.CKA_DECRYPT],
  ['SIGN', pkcs11js.CKA_SIGN],
  ['VERIFY', pkcs11js.CKA_VERIFY],
  ['WRAP', pkcs11js.CKA_WRAP],
  ['UNWRAP', pkcs11js.CKA_UNWRAP],
  ['DERIVE', pkcs11js.CKA_DERIVE],
];

const keyTypes: ReadonlyMap<number, string> = new Map([
  [pkcs11js.CKK_GENERIC_SECRET, 'CKK_GENERIC_SECRET'],
  [pkcs11js.CKK_DES, 'CKK_DES'],
  [pkcs11js.CKK_DES2, 'CKK_DES2'],
  [pkcs11js.CKK_DES3, 'CKK_DES3'],
  [pkcs11js.CKK_AES, 'CKK_AES'],
  [pkcs11js.CKK_CAMELLIA, 'CKK_CAMELLIA'],
  [pkcs11js.CKK_ARIA, 'CKK_ARIA'],
]);

/** Describes a secret key from its attributes. `read` gives `null` for one that the token does not tell. */
export function describeObject(read: (attribute: number) => Buffer | null): ObjectDescription {
  const flag = (attribute: number): boolean | null => {
    const value = read(attribute);
    return value === null || value.byteLength === 0 ? null : value[0] !== 0;
  };
  const keyType = unsignedLong(read(pkcs11js.CKA_KEY_TYPE));
  const valueLength = unsignedLong(read(pkcs11js.CKA_VALUE_LEN));
  const checkValue = read(pkcs11js.CKA_CHECK_VALUE);
  return {
    objectId: read(pkcs11js.CKA_ID)?.toString('hex') ?? '',
    label: read(pkcs11js.CKA_LABEL)?.toString('utf8') ?? '',
    keyType: keyType === null ? 'unknown' : (keyTypes.get(keyType) ?? `CKK_0x${keyType.toString(16)}`),
    keyBits: valueLength === null ? null : valueLength * 8,
    usage: usageAttributes.filter(([, attribute]) => flag(attribute) === true).map(([usage]) => usage),
    sensitive: flag(pkcs11js.CKA_SENSITIVE),
    extractable: flag(pkcs11js.CKA_EXTRACTABLE),
    checkValue: checkValue === null || checkValue.byteLength === 0 ? null : checkValue.toString('hex'),
  };
}

/** A CK_ULONG attribute: as wide as the machine's, little-endian on every machine that Node 20 has prebuilt. */
function unsignedLong(value: Buffer | null): number | null {
  if (value === null) return null;
  if (value.byteLength === 8) {
    const number = value.readBigUInt64LE();
    return number <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(number) : null;
  }
  return value.byteLength === 4 ? value.readUInt32LE() : null;
}
