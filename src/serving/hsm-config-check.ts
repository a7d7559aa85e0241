import { accessSync, constants } from 'node:fs';
import { errorText } from '../base/guards.js';
import { readPin } from '../hsm/pin.js';
import type { Config } from '../ops/config.js';
import { readHsmUris } from './hsm-uris.js';

export interface ConfigFindings {
  /** Each keeps a node from working. */
  readonly problems: readonly string[];
  /** What could not be checked here, or works and should be looked at. */
  readonly notes: readonly string[];
}

/** What can be known of `[[hsm]]` without loading a module. Never holds a PIN. */
export async function checkHsmConfig(
  { hsm }: Config,
  credentialsDirectory: string | null,
): Promise<ConfigFindings> {
  const named = readHsmUris(hsm);
  const problems = [...named.problems];
  const notes = named.warnings.map((warning) => `[[hsm]] uri: ${warning}`);
  for (const { uri } of named.tokens) {
    try {
      accessSync(uri.modulePath, constants.R_OK);
    } catch (thrown) {
      problems.push(
        `[[hsm]] uri: the module can't be read; check module-path or p11-kit's file, and that its package is installed: ${errorText(thrown)}`,
      );
    }
    if (uri.pinSource.kind === 'credential' && credentialsDirectory === null) {
      notes.push(
        `[[hsm]] uri: the PIN is the systemd credential ${uri.pinSource.name}, which only the service has; it was not checked`,
      );
      continue;
    }
    const pin = await readPin(uri.pinSource, credentialsDirectory);
    if (!pin.ok) problems.push(`[[hsm]] uri: ${pin.error}`);
  }
  return { problems, notes };
}
