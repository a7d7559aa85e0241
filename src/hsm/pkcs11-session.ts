import type pkcs11js from 'pkcs11js';

/** A PKCS#11 call that did not come back with CKR_OK. Stays within a thread: an `Error`'s fields don't cross. */
export class Pkcs11CallError extends Error {
  override readonly name = 'Pkcs11CallError';
  /** `CKR_…`. */
  readonly rv: string;
  readonly functionName: string;

  constructor(rv: string, functionName: string) {
    super(`${functionName} returned ${rv}`);
    this.rv = rv;
    this.functionName = functionName;
  }
}

/**
 * Runs one call of pkcs11js. It throws `Error`s of three shapes; those with a return value in their message become
 * a `Pkcs11CallError`, the others are bugs and pass.
 */
export function call<T>(functionName: string, run: () => T): T {
  try {
    return run();
  } catch (error) {
    const message = error instanceof Error ? error.message : '';
    const rv = /^(CKR_\w+)(?::(\d+))?/.exec(message);
    if (rv?.[1] === undefined) throw error;
    // pkcs11js calls every vendor-defined value CKR_VENDOR_DEFINED; the number tells them apart.
    const code = Number(rv[2] ?? (error as { readonly code?: unknown }).code ?? 0);
    throw new Pkcs11CallError(
      code >= 0x8000_0000 ? `CKR_VENDOR_DEFINED+0x${(code - 0x8000_0000).toString(16)}` : rv[1],
      functionName,
    );
  }
}

/** An object handle, good for the session's login at most. */
export type ObjectHandle = pkcs11js.Handle;

const findBatch = 64;

/** The object handles that match, at most `max`. */
export function findObjects(
  module: pkcs11js.PKCS11,
  session: pkcs11js.Handle,
  template: pkcs11js.Template,
  max: number,
): ObjectHandle[] {
  call('C_FindObjectsInit', () => module.C_FindObjectsInit(session, template));
  try {
    const found: ObjectHandle[] = [];
    while (found.length < max) {
      const batch = call('C_FindObjects', () =>
        module.C_FindObjects(session, Math.min(findBatch, max - found.length)),
      );
      if (batch.length === 0) break;
      found.push(...batch);
    }
    return found;
  } finally {
    call('C_FindObjectsFinal', () => module.C_FindObjectsFinal(session));
  }
}

/**
 * One attribute, `null` where the token refuses to tell. One at a time: a single one that a token does not know
 * fails the whole of C_GetAttributeValue for many of them.
 */
export function readAttribute(
  module: pkcs11js.PKCS11,
  session: pkcs11js.Handle,
  object: ObjectHandle,
  type: number,
): Buffer | null {
  try {
    const [attribute] = call('C_GetAttributeValue', () =>
      module.C_GetAttributeValue(session, object, [{ type }]),
    );
    const value: unknown = attribute?.value;
    return Buffer.isBuffer(value) ? value : null;
  } catch (error) {
    if (!(error instanceof Pkcs11CallError) || !attributeRefusals.has(error.rv)) throw error;
    return null;
  }
}

/** PKCS#11 §5.7.5: what C_GetAttributeValue says of an attribute, as opposed to the object, session or token. */
const attributeRefusals: ReadonlySet<string> = new Set([
  'CKR_ATTRIBUTE_TYPE_INVALID',
  'CKR_ATTRIBUTE_SENSITIVE',
  // Some modules' words for the same.
  'CKR_ATTRIBUTE_VALUE_INVALID',
  'CKR_FUNCTION_NOT_SUPPORTED',
]);
