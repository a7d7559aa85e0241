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
   * mode the caller gives it. Old client libraries may have the layout without `ulIvBits`. What a wrong tag comes back as is not documented.
   */
  luna: {
    name: 'luna',
    forms: [form('appended'), form('caller'), form('appended', 'without-iv-bits')],
    badTagCodes: null,
  },
  /**
   * AWS CloudHSM user guide, _Supported mechanisms for the PKCS #11 library_, annotations: the HSM takes no IV from the
   * application; the 12 bytes that it made are written to `pIv`, which must be zeroed. Client SDK 5 refuses others.
   */
  cloudhsm: { name: 'cloudhsm', forms: [form('in-place')], badTagCodes: null },
  /**
   * Entrust nShield, as it is reported by those who have one; not verified: an IV of zeros has the module make one and
   * write it back, which FIPS 140 level 3 mode demands; a wrong tag comes back as CKR_FUNCTION_FAILED.
   */
  nshield: {
    name: 'nshield',
    forms: [form('in-place'), form('caller')],
    badTagCodes: ['CKR_FUNCTION_FAILED', 'CKR_ENCRYPTED_DATA_INVALID'],
  },
  /** SoftHSM2: CKR_GENERAL_ERROR of 2.6 is observed by our tests, CKR_ENCRYPTED_DATA_INVALID of 2.7 is reported. */
  softhsm: {
    name: 'softhsm',
    forms: [form('caller')],
    badTagCodes: ['CKR_GENERAL_ERROR', 'CKR_ENCRYPTED_DATA_INVALID'],
  },
  /** NSS softoken (Debian's libnss3), observed by our tests: it takes both layouts. */
  nss: {
    name: 'nss',
    forms: [form('caller'), form('caller', 'without-iv-bits')],
    badTagCodes: ['CKR_ENCRYPTED_DATA_INVALID'],
  },
};

/** `null` for `auto`. */
export const vendorProfile = (name: ProfileName): VendorProfile | null =>
  name === 'auto' ? null : profiles[name];
