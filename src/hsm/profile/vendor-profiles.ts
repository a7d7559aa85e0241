import type { GcmForm, IvSource, ParameterLayout } from './gcm-form.js';

/** A profile that an operator may state: `[[hsm]] profile`. `auto` states nothing. */
export const profileNames = ['auto', 'luna', 'cloudhsm', 'nshield', 'softhsm', 'nss'] as const;
export type ProfileName = (typeof profileNames)[number];

/** What is known of a vendor's module beforehand. A probe has to bear it out. */
export interface VendorProfile {
  readonly name: Exclude<ProfileName, 'auto'>;
  /** The forms that the module has, the preferred one first: it applies while the token has not been probed. */
  readonly forms: readonly [GcmForm, ...GcmForm[]];
  /** Every code by which it may report a wrong tag; `null` where the vendor does not say. */
  readonly badTagCodes: readonly string[] | null;
}

const form = (ivSource: IvSource, layout: ParameterLayout = 'with-iv-bits'): GcmForm => ({
  ivSource,
  layout,
});

const profiles: { readonly [Name in VendorProfile['name']]: VendorProfile } = {
  /**
   * Thales Luna Network HSM 7, _SDK reference, CKM_AES_GCM_: in FIPS mode the HSM makes the IV and puts it at the end of
   * the encrypted data; 16 bytes before firmware 7.9.3, from then on 12 for `ulIvLen` 0 with `ulIvBits` 96. Outside of FIPS
   * mode the caller gives it. `ulIvBits` is required. What a wrong tag comes back as is not documented.
   */
  luna: { name: 'luna', forms: [form('appended'), form('caller')], badTagCodes: null },
  /**
   * AWS CloudHSM user guide, _Supported mechanisms for the PKCS #11 library_, annotations: the HSM takes no IV from the
   * application; the 12 bytes that it made are written to `pIv`, which must be zeroed. Client SDK 5 refuses others.
   */
  cloudhsm: { name: 'cloudhsm', forms: [form('in-place')], badTagCodes: null },
  /**
   * Entrust nShield, _Cryptographic API Integration Guide_, PKCS #11 mechanisms: an IV of zeros asks the module for one,
   * and is the only kind allowed in FIPS 140 level 3 mode. A wrong tag: CKR_FUNCTION_FAILED.
   */
  nshield: {
    name: 'nshield',
    forms: [form('in-place'), form('caller')],
    badTagCodes: ['CKR_FUNCTION_FAILED', 'CKR_ENCRYPTED_DATA_INVALID'],
  },
  /** SoftHSM2's source, `SoftHSM::SymDecrypt`: 2.6 gives CKR_GENERAL_ERROR, 2.7 CKR_ENCRYPTED_DATA_INVALID. Observed. */
  softhsm: {
    name: 'softhsm',
    forms: [form('caller')],
    badTagCodes: ['CKR_GENERAL_ERROR', 'CKR_ENCRYPTED_DATA_INVALID'],
  },
  /** NSS's source, `sftk_InitGCM…` and `sftk_MapDecryptError`: both layouts, CKR_ENCRYPTED_DATA_INVALID. Observed. */
  nss: {
    name: 'nss',
    forms: [form('caller'), form('caller', 'without-iv-bits')],
    badTagCodes: ['CKR_ENCRYPTED_DATA_INVALID'],
  },
};

/** `null` for `auto`. */
export const vendorProfile = (name: ProfileName): VendorProfile | null =>
  name === 'auto' ? null : profiles[name];
