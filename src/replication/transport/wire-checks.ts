import type { LogPosition, MemberId, Membership } from '../../raft/types.js';
import type * as wire from './generated/peer.js';

/** Ends a decoding: the peer sent what no version of ours sends. Thrown and caught within this folder. */
export class MalformedMessage extends Error {
  override readonly name = 'MalformedMessage';
}

/** Member ids, cluster ids, request ids, node names, versions and hashes, in UTF-16 units. */
export const idLengthMax = 255;
/** Of `host:port`; key state takes no longer ones (`clusterLimits.addressCharactersMax`). */
export const addressLengthMax = 262;
/** Of text for people. */
export const reasonLengthMax = 4_096;
/** Members of one kind in a membership. */
const membersMax = 255;

export function required<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new MalformedMessage(`no ${what}`);
  return value;
}

export const isId = (value: string): boolean => value.length > 0 && value.length <= idLengthMax;

export function checkedId(value: string, what: string): string {
  if (!isId(value)) throw new MalformedMessage(`${what} of ${value.length} characters`);
  return value;
}

export function checkedText(value: string, lengthMax: number, what: string): string {
  if (value.length > lengthMax) throw new MalformedMessage(`${what} of ${value.length} characters`);
  return value;
}

/** The generated decoder has refused what is no safe integer. */
export function checkedPosition(value: wire.LogPosition | undefined, what: string): LogPosition {
  const { index, term } = required(value, what);
  return { index, term };
}

export function checkedMembership(voters: readonly string[], learners: readonly string[]): Membership {
  for (const members of [voters, learners]) {
    if (members.length > membersMax) throw new MalformedMessage(`${members.length} members of one kind`);
  }
  const check = (member: string): MemberId => checkedId(member, 'member id');
  return { voters: voters.map(check), learners: learners.map(check) };
}
