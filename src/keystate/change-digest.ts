import { createHash } from 'node:crypto';
import type { Command } from './types.js';

/**
 * What a command is meant to change, as 32 hexadecimal digits: its type and what it names, without what is drawn anew
 * when an operator repeats it (times, minted ids and secrets, revisions seen). A request id repeated with another
 * change must not be answered with the first one's result: a key would be reported as disabled that is not.
 */
export function changeDigest(command: Command): string {
  const change = JSON.stringify([command.type, ...namesOf(command)]);
  return createHash('sha256').update(change).digest('hex').slice(0, 32);
}

function namesOf(command: Command): readonly unknown[] {
  switch (command.type) {
    case 'cluster.init':
      return [command.clusterId];
    case 'cluster.upgrade':
      return [command.format];
    case 'cluster.settings': {
      const { electionTicks, tickMs, heartbeatTicks, freshnessIntervalMs, serveStaleMaxMs } =
        command.settings;
      return [electionTicks, tickMs, heartbeatTicks, freshnessIntervalMs, serveStaleMaxMs];
    }
    case 'cluster.recover':
      // The parts of a long list of pending grants are different changes.
      return [command.newClusterId, command.survivor.memberId, ...command.pending.map(({ index }) => index)];
    case 'token.prepare':
      return [command.token.serial];
    case 'keystore.create':
    case 'keystore.enable':
    case 'keystore.disable':
      return [command.name];
    case 'keystore.set': {
      const { name, onIsolation } = command;
      return [name, onIsolation.rule, onIsolation.rule === 'stop' ? onIsolation.boundMs : null];
    }
    case 'credential.create':
      return [command.keyStore];
    case 'credential.retire':
      return [command.keyStore, command.accessKeyId];
    case 'key.create':
    case 'key.enable':
    case 'key.disable':
      return [command.keyStore, command.externalKeyId];
    case 'key.set':
      return [command.keyStore, command.externalKeyId, command.ivBudget];
    case 'iv.reserve':
      return [command.holder, ...command.reservations.map(({ objectId }) => objectId)];
    case 'member.add':
      return [command.name];
    case 'member.register':
    case 'member.join':
    case 'member.promote':
    case 'member.remove':
      return [command.memberId];
    case 'member.update':
      return [command.memberId, command.address];
    case 'member.forget':
      return [command.member];
    case 'pending.confirm':
    case 'pending.drop':
      return [command.index];
  }
}
