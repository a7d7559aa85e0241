import type { Command, CommandEnvelope } from '../../../src/keystate/types.js';
import { createCredential, createKey, createStore, keyName, setRule, storeName } from './key-commands.js';
import type { KeyScenario } from './key-scenario.js';
import { accessKeyIdOf } from './simulated-ids.js';

/** Access key id of each key store from the beginning. */
export const firstAccessKeyId = (store: number): string => accessKeyIdOf(store);

/** What a cluster that was made at once has already: key stores, each with a credential and half of its keys. */
export function initialCommands({
  keyStores,
  keys,
  rules,
}: KeyScenario): readonly ((envelope: CommandEnvelope) => Command)[] {
  return Array.from({ length: keyStores }, (_, store) => {
    const name = storeName(store);
    const rule = rules[store] ?? { rule: 'serve' };
    return [
      (envelope: CommandEnvelope) => createStore(envelope, name),
      // It tightens: what it saw doesn't matter.
      (envelope: CommandEnvelope) => setRule(envelope, name, rule, 0),
      (envelope: CommandEnvelope) => createCredential(envelope, name, firstAccessKeyId(store)),
      ...Array.from(
        { length: Math.ceil(keys / 2) },
        (_, key) => (envelope: CommandEnvelope) => createKey(envelope, name, keyName(key), ''),
      ),
    ];
  }).flat();
}
