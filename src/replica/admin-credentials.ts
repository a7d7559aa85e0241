import { invariant } from '../base/guards.js';
import { err, ok } from '../base/result.js';
import type { Credential } from '../keystate/types.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import { describeCredential, noSuchKeyStore, uriPathOf } from './admin-descriptions.js';
import type { AdminError } from './admin-error.js';
import { sealedBytesOf } from './hsm-bytes.js';

/** A credential used so lately is one that KMS still has. */
const recentUseMs = 15 * 60 * 1_000;

export function credentialHandlers(context: AdminContext): NounHandlers<'credential'> {
  const { proposer, hsm, credentialUse, clock } = context;
  /** Key stores of which a credential is being retired: two at once could retire the last two. */
  const retiring = new Set<string>();

  function objection(credential: Credential): AdminError | null {
    const { accessKeyId, keyStore } = credential;
    if ([...context.state.credentials(keyStore)].length <= 1) {
      return {
        byState: true,
        code: 'refused',
        message:
          `${accessKeyId} is the last credential of key store "${keyStore}": KMS could not call it any more. ` +
          'Create another one, give it to KMS, then retire this one; or repeat with --force.',
      };
    }
    const lastUsedMs = credentialUse.lastUsedMs(accessKeyId);
    const idleMs = lastUsedMs === null ? null : clock.wallMs() - lastUsedMs;
    if (lastUsedMs === null || idleMs === null || idleMs >= recentUseMs) return null;
    return {
      code: 'refused',
      message:
        `${accessKeyId} was last used at ${new Date(lastUsedMs).toISOString()}, ` +
        `${Math.max(0, Math.round(idleMs / 1_000))} s ago: KMS still has it. Give KMS another credential ` +
        `(aws kms update-custom-key-store) and wait ${recentUseMs / 60_000} minutes; or repeat with --force.`,
    };
  }

  /** What was minted for the repetition is forgotten; the secret of the first attempt was shown then, or never. */
  function createdBefore(keyStore: string, revision: number): AdminError {
    const created = [...context.state.credentials(keyStore)].find((one) => one.revision === revision);
    const message =
      created === undefined
        ? 'This request created a credential before, which was retired since: create another one.'
        : `This request created ${created.accessKeyId} before; its secret can't be shown again. Use it if you have it; ` +
          `else retire it (xksctl credential retire ${created.accessKeyId}) and create another one.`;
    return { code: 'already-exists', message };
  }

  return {
    'credential.create': async ({ keyStore }, caller) => {
      const store = context.state.keyStore(keyStore);
      if (store === null) return err(noSuchKeyStore(keyStore));
      const minted = await hsm.ask<'mint-credential'>({ op: 'mint-credential', keyStore });
      if (!minted.ok) return minted;
      const { accessKeyId, secretAccessKey, sealed } = minted.value;
      const sealedSecret = sealedBytesOf(sealed);
      const report = await proposer.propose(
        { type: 'credential.create', keyStore, accessKeyId, sealedSecret },
        caller,
      );
      if (!report.ok) return report;
      if (report.value.repeated) return err(createdBefore(keyStore, report.value.index));
      const credential = context.state.credential(accessKeyId);
      invariant(credential !== null, 'a credential that was created exists');
      return ok({
        credential: describeCredential(credential, credentialUse),
        secretAccessKey,
        uriPath: uriPathOf(store),
        change: report.value,
      });
    },

    'credential.list': async ({ keyStore }) => {
      if (keyStore !== undefined && context.state.keyStore(keyStore) === null)
        return err(noSuchKeyStore(keyStore));
      const names =
        keyStore === undefined ? [...context.state.keyStores()].map(({ name }) => name) : [keyStore];
      const credentials = names.sort().flatMap((name) => [...context.state.credentials(name)]);
      return ok({
        credentials: credentials.map((credential) => describeCredential(credential, credentialUse)),
      });
    },

    'credential.retire': async ({ accessKeyId, force }, caller) => {
      const credential = context.state.credential(accessKeyId);
      if (credential === null) {
        return err({
          byState: true,
          code: 'not-found',
          message: `there is no credential ${accessKeyId}; it may be retired already`,
        });
      }
      const { keyStore } = credential;
      if (retiring.has(keyStore)) {
        return err({
          code: 'conflict',
          message: `another credential of key store "${keyStore}" is being retired; try again`,
        });
      }
      const against = force === true ? null : objection(credential);
      if (against !== null) return err(against);
      retiring.add(keyStore);
      try {
        const described = describeCredential(credential, credentialUse);
        const report = await proposer.propose({ type: 'credential.retire', keyStore, accessKeyId }, caller);
        return report.ok ? ok({ credential: described, change: report.value }) : report;
      } finally {
        retiring.delete(keyStore);
      }
    },
  };
}
