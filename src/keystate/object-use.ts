/** An object belongs to one key version, or has one role on tokens. */
export type ObjectUse =
  | { readonly role: 'key'; readonly keyStore: string; readonly externalKeyId: string }
  | { readonly role: 'test key' | 'wrapping key'; readonly serial: string; readonly label: string };

export function describeUse(use: ObjectUse): string {
  return use.role === 'key'
    ? `key "${use.externalKeyId}" of key store "${use.keyStore}"`
    : `the ${use.role} of token ${use.label === '' ? use.serial : `"${use.label}" (${use.serial})`}`;
}
