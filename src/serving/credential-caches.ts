import type { KeyState } from '../keystate/key-state.js';
import type { Command } from '../keystate/types.js';
import type { SigningKeyCache } from '../sigv4/signing-key.js';
import type { CredentialUse } from './credential-use.js';
import type { SecretStore } from './secret-store.js';

/** What this process keeps of credentials beside key state. */
export interface CredentialCaches {
  readonly secrets: SecretStore;
  readonly signingKeys: SigningKeyCache;
  readonly credentialUse: CredentialUse;
}

/**
 * Leaves nothing in memory of credentials that are out of force. `command` was applied to `state`; `null`: all of it is
 * another.
 */
export function forgetLostCredentials(
  { secrets, signingKeys, credentialUse }: CredentialCaches,
  state: KeyState,
  command: Command | null,
): void {
  switch (command?.type) {
    case 'credential.retire':
      // A refused one is forgotten too, and opened again at its next use.
      secrets.forget(command.accessKeyId);
      signingKeys.forget(command.accessKeyId);
      if (state.credential(command.accessKeyId) === null) credentialUse.forget(command.accessKeyId);
      return;
    case undefined:
    // It takes back credentials that nobody may have been told of.
    case 'cluster.recover':
    case 'pending.drop':
      for (const accessKeyId of secrets.retain(state)) signingKeys.forget(accessKeyId);
      credentialUse.retain(state);
      return;
    default:
      return;
  }
}
