import type { CommandType } from './types.js';

/**
 * What a command does to who may use keys: `deny` takes away and is never refused for what it saw, `grant` gives and
 * must be refused when it comes late (replication.md 12), and becomes pending in a recovery when it was not known to
 * be committed (13; there, creations are kept).
 */
export type CommandClass = 'deny' | 'grant' | 'neutral';

export const commandClasses: { readonly [T in CommandType]: CommandClass } = {
  'cluster.init': 'neutral',
  'token.prepare': 'neutral',
  'keystore.create': 'grant',
  'keystore.enable': 'grant',
  'keystore.disable': 'deny',
  'credential.create': 'grant',
  'credential.retire': 'deny',
  'key.create': 'grant',
  'key.enable': 'grant',
  'key.disable': 'deny',
};
