import type { HsmFailure } from './types.js';

/** A failure as the code that meets it says it: what PKCS#11 returned, and which function, where one did. */
export const failed = (
  kind: HsmFailure['kind'],
  rv: string | null = null,
  functionName: string | null = null,
): HsmFailure => ({ kind, rv, functionName });
