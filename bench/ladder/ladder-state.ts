import { KeyState } from '../../src/keystate/key-state.js';
import { mintRequestId, requestIdRandomBytes } from '../../src/keystate/request-id.js';
import type { Command, CommandEnvelope, SealedBytes } from '../../src/keystate/types.js';
import type { SecretStore } from '../../src/serving/secret-store.js';
import { ladderAccess } from './rungs.js';

type Unwrapped<C> = C extends unknown ? Omit<C, keyof CommandEnvelope> : never;

const keyStore = 'bench';

/** Key state with one key store, credential and key for whoever has `ladderAccess`. */
export function ladderState(secrets: SecretStore, objectId: string, witness: SealedBytes): KeyState {
  const state = new KeyState();
  const { uriPathPrefix, accessKeyId, secretAccessKey, keyId, region } = ladderAccess;
  applyTo(state, {
    type: 'keystore.create',
    name: keyStore,
    uriPathPrefix,
    regions: [region],
    adopted: false,
  });
  const sealedSecret = secrets.seal({ keyStore, accessKeyId }, Buffer.from(secretAccessKey));
  if (sealedSecret === null) throw new Error('there is no cluster secret');
  applyTo(state, { type: 'credential.create', keyStore, accessKeyId, sealedSecret });
  applyTo(state, {
    type: 'key.create',
    keyStore,
    externalKeyId: keyId,
    objectId,
    witness,
    checkValue: null,
    usage: ['ENCRYPT', 'DECRYPT'],
    description: '',
  });
  return state;
}

/** Applies a command as the next one. */
export function applyTo(state: KeyState, command: Unwrapped<Command>): void {
  const index = state.appliedIndex + 1;
  const requestId = mintRequestId(index, new Uint8Array(requestIdRandomBytes));
  // The spread of a union is no union to the compiler.
  const result = state.apply(index, { ...command, requestId, atMs: index, by: 'bench' } as Command);
  if (!result.ok) throw new Error(result.error.message);
}
