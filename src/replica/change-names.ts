import type { Command, CommandEnvelope } from '../keystate/types.js';

type Unsigned<C> = C extends CommandEnvelope ? Omit<C, keyof CommandEnvelope> : never;

/** A command without what the proposer puts in: request id, time, who asked. */
export type Change = Unsigned<Command>;

/** What a line about a change says of its object: names, nothing sealed. */
export function namesIn(change: Change): Readonly<Record<string, string>> {
  switch (change.type) {
    case 'cluster.init':
      return { clusterId: change.clusterId };
    case 'token.prepare':
      return { tokenSerial: change.token.serial };
    case 'keystore.create':
    case 'keystore.enable':
    case 'keystore.disable':
      return { keyStore: change.name };
    case 'credential.create':
    case 'credential.retire':
      return { keyStore: change.keyStore, accessKeyId: change.accessKeyId };
    case 'key.create':
    case 'key.enable':
    case 'key.disable':
    case 'key.set':
      return { keyStore: change.keyStore, externalKeyId: change.externalKeyId };
    case 'keystore.set':
      return { keyStore: change.name };
    case 'cluster.upgrade':
      return { format: `${change.format}` };
    case 'cluster.settings':
    case 'iv.reserve':
      return {};
    case 'cluster.recover':
      return { clusterId: change.newClusterId, memberId: change.survivor.memberId };
    case 'member.register':
    case 'member.add':
      return { memberId: change.memberId, member: change.name };
    case 'member.join':
    case 'member.promote':
    case 'member.remove':
    case 'member.update':
      return { memberId: change.memberId };
    case 'member.forget':
      return { member: change.member };
    case 'pending.confirm':
    case 'pending.drop':
      return { pendingIndex: `${change.index}` };
  }
}
