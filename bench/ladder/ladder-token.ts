import { ensureDebianPackages } from '../../src/demo/debian-packages.js';
import { provideDemoToken } from '../../src/demo/demo-token.js';
import { makePartialKeys } from '../../src/demo/partial-keys.js';
import type { LadderToken } from './rungs.js';

/** A throwaway token with a key, for everything that is measured without a node. `directory`: empty. */
export async function makeLadderToken(
  directory: string,
): Promise<{ readonly token: LadderToken; readonly environment: Readonly<Record<string, string>> }> {
  const ensured = ensureDebianPackages(
    [
      { name: 'softhsm2', provides: 'softhsm2-util' },
      { name: 'openssl', provides: 'openssl' },
    ],
    (line) => console.error(line),
  );
  if (!ensured.ok) throw new Error(ensured.error);
  const provided = await provideDemoToken({ directory, module: null, initArgs: '', token: null });
  if (!provided.ok) throw new Error(provided.error);
  const { access, environment } = provided.value;
  // The module reads it when it is initialised, here for making the key.
  Object.assign(process.env, environment);
  const [objectId = ''] = makePartialKeys(access, [{ label: 'bench', encrypt: true, decrypt: true }]);
  const { modulePath, tokenLabel, pin } = access;
  return { token: { modulePath, label: tokenLabel, pin, objectId }, environment };
}
