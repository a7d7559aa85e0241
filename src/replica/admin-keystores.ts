import { invariant } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';
import { compareText, describeCredential, describeKeyStore, noSuchKeyStore } from './admin-descriptions.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller, Change } from './change-proposer.js';

export function keyStoreHandlers(context: AdminContext): NounHandlers<'keystore'> {
  const { proposer } = context;

  async function changed(
    name: string,
    change: Change,
    caller: AdminCaller,
  ): Promise<Result<AdminResponse<'keystore.create'>, AdminError>> {
    const report = await proposer.propose(change, caller);
    if (!report.ok) return report;
    const store = context.state.keyStore(name);
    invariant(store !== null, 'a key store that was changed exists');
    return ok({ keyStore: describeKeyStore(store, context.state), change: report.value });
  }

  return {
    'keystore.create': async ({ name, uriPathPrefix, regions, adopted }, caller) =>
      changed(
        name,
        {
          type: 'keystore.create',
          name,
          uriPathPrefix: (uriPathPrefix ?? name).replace(/^\/+|\/+$/g, ''),
          regions,
          adopted: adopted ?? false,
        },
        caller,
      ),

    'keystore.list': async () => {
      const keyStores = [...context.state.keyStores()].map((store) => describeKeyStore(store, context.state));
      return ok({ keyStores: keyStores.sort((left, right) => compareText(left.name, right.name)) });
    },

    'keystore.show': async ({ name }) => {
      const store = context.state.keyStore(name);
      if (store === null) return err(noSuchKeyStore(name));
      const credentials = [...context.state.credentials(name)].map((credential) =>
        describeCredential(credential, context.credentialUse),
      );
      return ok({ keyStore: describeKeyStore(store, context.state), credentials });
    },

    'keystore.enable': async ({ name, revision }, caller) => {
      const store = context.state.keyStore(name);
      if (store === null) return err(noSuchKeyStore(name));
      return changed(name, { type: 'keystore.enable', name, revision: revision ?? store.revision }, caller);
    },

    'keystore.disable': async ({ name }, caller) => {
      if (context.state.keyStore(name) === null) return err(noSuchKeyStore(name));
      return changed(name, { type: 'keystore.disable', name }, caller);
    },

    'keystore.set': async ({ name, onIsolation, revision }, caller) => {
      const store = context.state.keyStore(name);
      if (store === null) return err(noSuchKeyStore(name));
      const seen = revision ?? store.revision;
      return changed(name, { type: 'keystore.set', name, onIsolation, revision: seen }, caller);
    },
  };
}
