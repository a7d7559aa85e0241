import { type Command, type CommandType, limits, type OnIsolation } from './types.js';

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
  /** Says how far a key is used that may be used already; nobody is let in by it. */
  'key.set': 'neutral',
  'iv.reserve': 'neutral',
  /** Unless it only takes away: see `classOf`. */
  'keystore.set': 'grant',
  'cluster.upgrade': 'neutral',
  'cluster.settings': 'neutral',
  'cluster.recover': 'neutral',
  'member.register': 'neutral',
  'member.add': 'neutral',
  'member.join': 'neutral',
  'member.promote': 'neutral',
  'member.remove': 'neutral',
  'member.forget': 'neutral',
  'member.update': 'neutral',
  'pending.confirm': 'grant',
  'pending.drop': 'deny',
};

/** Without a look at the state: the class of what the command does there, or `grant` when it may be that. */
export function classOf(command: Command): CommandClass {
  if (command.type !== 'keystore.set') return commandClasses[command.type];
  const { onIsolation } = command;
  return loosens(onIsolation, { rule: 'stop', boundMs: limits.isolationBoundMsMin }) ? 'grant' : 'deny';
}

/** How long a key store is served without quorum. */
const servedMs = (rule: OnIsolation): number =>
  rule.rule === 'serve' ? Number.POSITIVE_INFINITY : rule.boundMs;

/** Whether a node may serve longer under `rule` than under `before`. */
export const loosens = (rule: OnIsolation, before: OnIsolation): boolean => servedMs(rule) > servedMs(before);

/** Those that change who the voters and learners are, one at a time (thesis §4.1): proposed as `membership`. */
export function changesMembership(command: Command): boolean {
  switch (command.type) {
    case 'member.register':
    case 'member.join':
    case 'member.promote':
    case 'member.remove':
    case 'cluster.recover':
      return true;
    case 'cluster.init':
      return command.memberId !== undefined;
    default:
      return false;
  }
}
