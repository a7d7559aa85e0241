import type { CellContext } from './cells.js';
import { formFlags, type GcmForm } from './profile/gcm-form.js';
import type { KeyObject } from './types.js';

/** The case of a probe: it knows nothing but the key: its witness was made in a form that may be another. */
export const withoutWitness = <Operation extends { readonly key: KeyObject }>(
  operation: Operation,
): Operation => ({
  ...operation,
  key: { objectId: operation.key.objectId, witness: null },
});

export const trialContext = (form: GcmForm): CellContext => ({
  canary: null,
  formFlags: formFlags(form, null),
  isTrial: true,
});
