import { decodeHex } from '../base/bytes.js';
import { isJsonObject } from '../base/guards.js';
import type { HsmOperation, WitnessJson } from '../ops/state-link.js';

export type ParsedHsmRequest =
  | { readonly id: number; readonly ok: true; readonly operation: HsmOperation }
  | { readonly id: number; readonly ok: false; readonly message: string };

/** An HSM request off the state link; `null` when it has no id to answer to. */
export function parseHsmRequest(payload: Readonly<Record<string, unknown>>): ParsedHsmRequest | null {
  const { id } = payload;
  if (typeof id !== 'number') return null;
  const operation = parseOperation(payload);
  return operation === null
    ? { id, ok: false, message: 'the request is malformed, or of another version of xksd' }
    : { id, ok: true, operation };
}

function parseOperation(payload: Readonly<Record<string, unknown>>): HsmOperation | null {
  const { op, label, keyStore, objectId, forgive, place, singleToken, accept } = payload;
  switch (op) {
    case 'list-objects':
    case 'test-tokens':
      return { op };
    case 'probe-tokens':
      return isTextOrNull(accept) ? { op, accept } : null;
    case 'prepare-token':
      return typeof place === 'number' ? { op, place } : null;
    case 'retry-login':
      return typeof forgive === 'boolean' ? { op, forgive } : null;
    case 'generate-key':
      return typeof label === 'string' && isTextOrNull(singleToken) ? { op, label, singleToken } : null;
    case 'inspect-key':
      return isTextOrNull(objectId) && isTextOrNull(label) ? { op, objectId, label } : null;
    case 'locate-key': {
      const { witness, checkValue } = payload;
      return typeof objectId === 'string' && isWitnessOrNull(witness) && isTextOrNull(checkValue)
        ? { op, objectId, witness, checkValue }
        : null;
    }
    case 'mint-credential':
      return typeof keyStore === 'string' ? { op, keyStore } : null;
    default:
      return null;
  }
}

const isTextOrNull = (value: unknown): value is string | null => typeof value === 'string' || value === null;

const isHex = (value: unknown): boolean => typeof value === 'string' && decodeHex(value) !== null;

const isWitnessOrNull = (value: unknown): value is WitnessJson | null =>
  value === null ||
  (isJsonObject(value) && isHex(value['iv']) && isHex(value['ciphertext']) && isHex(value['tag']));
