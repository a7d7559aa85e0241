import { isExternalKeyId } from '../xks/uri-path.js';
import { settingsProblem } from './cluster-settings.js';
import { type ClusterCommand, clusterLimits, type UnconfirmedGrant } from './cluster-types.js';
import { commandFormatMax } from './command-format.js';
import type { CommandEnvelope } from './types.js';

const namePattern = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$/;
/** Of clusters and members. */
const idPattern = /^[A-Za-z0-9-]{1,64}$/;
const digestPattern = /^[0-9a-f]{64}$/;
/** RFC 3986 §3.2: a registered name or IPv4 address, or an IPv6 address in brackets. */
const addressPattern = /^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):([0-9]{1,5})$/;
const portMax = 65_535;

/** What is wrong with a command about the cluster whatever the state; `null` when nothing is. Worded for operators. */
export function clusterProblem(command: ClusterCommand & CommandEnvelope): string | null {
  switch (command.type) {
    case 'cluster.upgrade':
      return formatProblem(command.format);
    case 'cluster.settings':
      return settingsProblem(command.settings);
    case 'cluster.recover':
      return recoveryProblem(command);
    case 'member.register':
      return memberProblem(command);
    case 'member.add':
      return (
        memberProblem(command) ??
        digestProblem('a join secret', command.joinSecretDigest) ??
        inviteProblem(command)
      );
    case 'member.join':
      return digestProblem('a join secret', command.joinSecretDigest) ?? addressProblem(command.address);
    case 'member.update':
      return addressProblem(command.address);
    case 'member.forget':
      return command.destroyed
        ? null
        : 'only a node that is known to be destroyed may be forgotten: repeat it with --destroyed once it is';
    // They name something that exists, or are refused for that.
    case 'member.promote':
    case 'member.remove':
    case 'pending.confirm':
    case 'pending.drop':
      return null;
  }
}

export function nameProblem(of: string, name: string): string | null {
  return namePattern.test(name)
    ? null
    : `a ${of} name has 1 to 64 characters of A-Z, a-z, 0-9, ".", "_" and "-", and starts and ends with a letter or digit`;
}

export function idProblem(of: string, id: string): string | null {
  return idPattern.test(id) ? null : `a ${of} id has 1 to 64 letters, digits and hyphens`;
}

export function addressProblem(address: string): string | null {
  const port = Number(addressPattern.exec(address)?.[1] ?? 0);
  return address.length <= clusterLimits.addressCharactersMax && port >= 1 && port <= portMax
    ? null
    : 'the address of a member is host:port, such as node-b.example.com:7946 or [2001:db8::2]:7946';
}

export function formatProblem(format: number): string | null {
  return Number.isSafeInteger(format) && format >= 1 && format <= commandFormatMax
    ? null
    : `this version of xksd knows formats 1 to ${commandFormatMax}: install a later one on every node first`;
}

interface Place {
  readonly memberId: string;
  readonly name: string;
  readonly address: string;
}

const memberProblem = ({ memberId, name, address }: Place): string | null =>
  idProblem('member', memberId) ?? nameProblem('node', name) ?? addressProblem(address);

const digestProblem = (of: string, digest: string): string | null =>
  digestPattern.test(digest) ? null : `the digest of ${of} is 64 lower-case hexadecimal digits`;

function inviteProblem(invite: { readonly atMs: number; readonly expiresAtMs: number }): string | null {
  const lifetimeMs = invite.expiresAtMs - invite.atMs;
  const max = clusterLimits.inviteLifetimeMsMax;
  return lifetimeMs >= 1 && lifetimeMs <= max
    ? null
    : `a join token is good for ${max / 86_400_000} days at most, and expires in the future`;
}

function recoveryProblem(command: Extract<ClusterCommand, { type: 'cluster.recover' }>): string | null {
  const { newClusterId, survivor, formerMembers, pending } = command;
  const places = new Set([survivor.memberId, ...formerMembers.map(({ memberId }) => memberId)]);
  if (formerMembers.length > clusterLimits.membersMax || places.size !== formerMembers.length + 1) {
    return `a recovery names its survivor and up to ${clusterLimits.membersMax} others, each once`;
  }
  if (pending.length > clusterLimits.pendingPerCommandMax) {
    return `a recovery lists up to ${clusterLimits.pendingPerCommandMax} grants at once`;
  }
  for (const { memberId, name } of formerMembers) {
    const problem = idProblem('member', memberId) ?? nameProblem('node', name);
    if (problem !== null) return problem;
  }
  for (const grant of pending) {
    const problem = grantProblem(grant);
    if (problem !== null) return problem;
  }
  return idProblem('cluster', newClusterId) ?? memberProblem(survivor);
}

const grantProblem = ({ digest, keyStore, name }: UnconfirmedGrant): string | null =>
  digestProblem('a command', digest) ??
  nameProblem('key store', keyStore) ??
  (name === null || isExternalKeyId(name)
    ? null
    : 'a grant is named by an external key id or an access key id');
