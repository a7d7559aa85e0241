/**
 * How a token wants AES-GCM (CKM_AES_GCM) to be asked for. `native/gcm_parameters.h` is its twin.
 */

/**
 * Who makes the IV of an encryption.
 *
 * - `caller`: we do, from the token's random XOR the system's;
 * - `appended`: the HSM, which puts it after the tag (12 bytes);
 * - `in-place`: the HSM, which writes it over the 12 zero bytes that it is given.
 */
export type IvSource = 'caller' | 'appended' | 'in-place';

/** Whether CK_GCM_PARAMS has `ulIvBits`: the header files of PKCS#11 v2.40 have it, its text has not. */
export type ParameterLayout = 'with-iv-bits' | 'without-iv-bits';

export interface GcmForm {
  readonly ivSource: IvSource;
  readonly layout: ParameterLayout;
}

/** PKCS#11 as most modules speak it. In force where nothing is stated and nothing has been probed. */
export const callersForm: GcmForm = { ivSource: 'caller', layout: 'with-iv-bits' };

/**
 * Every form, in the order in which a probe tries them. Those without `ulIvBits` come last: they are asked for only where
 * nothing else works, since a module that expects the field and does not look at the length of the parameters would take
 * a length for a pointer.
 */
export const allForms: readonly GcmForm[] = (['with-iv-bits', 'without-iv-bits'] as const).flatMap((layout) =>
  (['caller', 'in-place', 'appended'] as const).map((ivSource) => ({ ivSource, layout })),
);

export const isSameForm = (one: GcmForm, other: GcmForm): boolean =>
  one.ivSource === other.ivSource && one.layout === other.layout;

/** Of what was written to a file; `null` for what is no form. */
export function parseForm(json: Readonly<Record<string, unknown>>): GcmForm | null {
  const ivSource = (['caller', 'appended', 'in-place'] as const).find((one) => one === json['ivSource']);
  const layout = (['with-iv-bits', 'without-iv-bits'] as const).find((one) => one === json['layout']);
  return ivSource === undefined || layout === undefined ? null : { ivSource, layout };
}

const sourceText: { readonly [Source in IvSource]: string } = {
  caller: 'takes the caller’s IV',
  appended: 'makes the IV and appends it',
  'in-place': 'makes the IV and writes it back',
};

/** For people, as in “the token …”. */
export const formText = ({ ivSource, layout }: GcmForm): string =>
  `${sourceText[ivSource]} (parameters ${layout === 'with-iv-bits' ? 'with' : 'without'} ulIvBits)`;

const ivSourceCode = { caller: 0, appended: 1, 'in-place': 2 } as const;
const flag = {
  ivSourceShift: 8,
  withoutIvBits: 1 << 10,
  generalErrorIsFault: 1 << 12,
  functionFailedIsFault: 1 << 13,
  vendorCodeIsFault: 1 << 14,
} as const;

/**
 * The form, and what a bad tag looks like, as the flags of a cell (`native/crypto_cell.h`).
 *
 * @param badTagCodes every `CKR_…` by which the token refused a bad ciphertext when it was probed, `null` where it was
 *   not. A code that may mean anything and is not among them is never the caller's fault (X-X2).
 */
export function formFlags(form: GcmForm, badTagCodes: ReadonlySet<string> | null): number {
  let flags = ivSourceCode[form.ivSource] << flag.ivSourceShift;
  if (form.layout === 'without-iv-bits') flags |= flag.withoutIvBits;
  if (badTagCodes === null) return flags;
  if (!badTagCodes.has('CKR_GENERAL_ERROR')) flags |= flag.generalErrorIsFault;
  if (!badTagCodes.has('CKR_FUNCTION_FAILED')) flags |= flag.functionFailedIsFault;
  if (![...badTagCodes].some(isUnnamed)) flags |= flag.vendorCodeIsFault;
  return flags;
}

/** As `pkcs11RvName` writes a code that the standard has no name for. */
const isUnnamed = (code: string): boolean => /^CKR_(VENDOR_DEFINED\+)?0x/.test(code);
