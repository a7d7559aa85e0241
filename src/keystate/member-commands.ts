import { type ClusterCommand, clusterLimits, type FormerMember, type Member } from './cluster-types.js';
import { done, refused } from './command-results.js';
import type { Tables } from './tables.js';
import type { CommandEnvelope, CommandResult } from './types.js';

type MemberCommand = Extract<ClusterCommand, { readonly type: `member.${string}` }> & CommandEnvelope;
type MemberCommandOf<T extends MemberCommand['type']> = Extract<MemberCommand, { readonly type: T }>;

/**
 * Who is in the cluster. That membership changes one at a time, and only with a quorum that remains, is the
 * replication's to see to, before a command gets here.
 */
export function applyMemberCommand(tables: Tables, index: number, command: MemberCommand): CommandResult {
  switch (command.type) {
    case 'member.register':
      return register(tables, index, command);
    case 'member.add':
      return invite(tables, index, command);
    case 'member.join':
      return join(tables, index, command);
    case 'member.promote':
      return promote(tables, index, command);
    case 'member.remove':
      return remove(tables, index, command);
    case 'member.forget':
      return forget(tables, index, command);
    case 'member.update':
      return update(tables, index, command);
  }
}

/** The only voter, of a new cluster or of one that had no members. */
export function putFounder(
  tables: Tables,
  index: number,
  founder: Pick<Member, 'memberId' | 'name' | 'address'>,
  atMs: number,
): void {
  const { memberId, name, address } = founder;
  tables.putMember({
    memberId,
    name,
    address,
    status: 'voter',
    joinSecretDigest: null,
    invitedAtMs: atMs,
    inviteExpiresAtMs: atMs,
    joinedIndex: index,
    revision: index,
  });
}

/** Those who get the log, in the order in which they joined; `null` while there are none. */
export function membershipOf(
  tables: Tables,
): { readonly voters: readonly string[]; readonly learners: readonly string[] } | null {
  if (tables.memberCount() === 0) return null;
  const joined = [...tables.members()].sort(
    (left, right) => (left.joinedIndex ?? 0) - (right.joinedIndex ?? 0),
  );
  const idsOf = (status: Member['status']): readonly string[] =>
    joined.filter((member) => member.status === status).map(({ memberId }) => memberId);
  return { voters: idsOf('voter'), learners: idsOf('learner') };
}

/** Makes former members out of members. `false`, with nothing changed, when there is no room for them. */
export function leaveBehind(
  tables: Tables,
  index: number,
  leaving: readonly Pick<FormerMember, 'memberId' | 'name'>[],
  { reason, atMs }: { readonly reason: FormerMember['reason']; readonly atMs: number },
): boolean {
  const known = [...tables.formerMembers()];
  const added = leaving.filter(({ memberId }) => tables.formerMember(memberId) === null);
  const kept = known.filter(({ destroyed }) => !destroyed).length;
  if (kept + added.length > clusterLimits.formerMembersMax) return false;
  for (const { memberId, name } of leaving) {
    const member = tables.member(memberId);
    if (member !== null) tables.removeMember(member);
    if (tables.formerMember(memberId) !== null) continue;
    tables.putFormerMember({
      memberId,
      name,
      removedAtMs: atMs,
      reason,
      destroyed: false,
      revision: index,
    });
  }
  return true;
}

function register(tables: Tables, index: number, command: MemberCommandOf<'member.register'>): CommandResult {
  if (tables.cluster === null) return refused('conflict', 'there is no cluster yet to be a member of');
  const [first] = tables.members();
  if (first !== undefined) {
    return refused(
      'already-exists',
      `the cluster has members already, such as "${first.name}": another is invited (xksctl cluster add)`,
    );
  }
  const former = refusedAsFormer(tables, command.memberId);
  if (former !== null) return former;
  putFounder(tables, index, command, command.atMs);
  return done(index);
}

function invite(tables: Tables, index: number, command: MemberCommandOf<'member.add'>): CommandResult {
  const { memberId, name, address, joinSecretDigest, expiresAtMs, atMs } = command;
  if (tables.memberCount() === 0) {
    return refused('conflict', 'the cluster has no members yet: its first one has not said that it is one');
  }
  const former = refusedAsFormer(tables, memberId);
  if (former !== null) return former;
  const known = tables.member(memberId);
  if (known !== null) {
    return refused('already-exists', `member ${memberId} is there already, as "${known.name}"`);
  }
  const namesake = tables.memberByName(name);
  if (namesake !== null && !isStaleInvite(namesake, atMs)) {
    return refused(
      'already-exists',
      `there is a member "${name}" already (${namesake.status}): choose another name, or remove that one first (xksctl cluster remove ${name})`,
    );
  }
  if (namesake === null && tables.memberCount() >= clusterLimits.membersMax) {
    return refused(
      'limit',
      `the cluster has ${clusterLimits.membersMax} members already, invited ones included, the most it may have: remove one first`,
    );
  }
  // It never joined: nobody holds key state under that id.
  if (namesake !== null) tables.removeMember(namesake);
  tables.putMember({
    memberId,
    name,
    address,
    status: 'invited',
    joinSecretDigest,
    invitedAtMs: atMs,
    inviteExpiresAtMs: expiresAtMs,
    joinedIndex: null,
    revision: index,
  });
  return done(index);
}

const isStaleInvite = ({ status, inviteExpiresAtMs }: Member, atMs: number): boolean =>
  status === 'invited' && atMs >= inviteExpiresAtMs;

function join(tables: Tables, index: number, command: MemberCommandOf<'member.join'>): CommandResult {
  const { memberId, joinSecretDigest, address, atMs } = command;
  const member = tables.member(memberId);
  if (member === null) return noMember(tables, memberId);
  // A learner whose answer was lost asks again. It may do so with an empty disk: learners count for no quorum.
  if (member.status === 'learner' && member.joinSecretDigest === joinSecretDigest)
    return done(member.revision);
  if (member.status !== 'invited') {
    return refused(
      'conflict',
      `member "${member.name}" has joined already and its join token is used: if this is another machine, remove that member and invite it anew`,
    );
  }
  // Not in constant time: digests, of secrets of 256 bits.
  if (member.joinSecretDigest !== joinSecretDigest) {
    return refused('conflict', `the join token is not the one made for member "${member.name}"`);
  }
  if (atMs >= member.inviteExpiresAtMs) {
    return refused(
      'expired',
      `the join token of "${member.name}" has expired: make another (xksctl cluster add ${member.name})`,
    );
  }
  tables.putMember({
    ...member,
    address,
    status: 'learner',
    joinedIndex: index,
    revision: index,
  });
  return done(index);
}

function promote(tables: Tables, index: number, command: MemberCommandOf<'member.promote'>): CommandResult {
  const member = tables.member(command.memberId);
  if (member === null) return noMember(tables, command.memberId);
  if (member.status === 'voter') return done(member.revision);
  if (member.status === 'invited') {
    return refused('conflict', `member "${member.name}" has not joined yet: start it with its join token`);
  }
  tables.putMember({ ...member, status: 'voter', joinSecretDigest: null, revision: index });
  return done(index);
}

function remove(tables: Tables, index: number, command: MemberCommandOf<'member.remove'>): CommandResult {
  const { memberId, atMs } = command;
  const member = tables.member(memberId);
  if (member === null) {
    const former = tables.formerMember(memberId);
    return former === null ? noMember(tables, memberId) : done(former.revision);
  }
  if (member.status === 'invited') {
    // It holds no key state, so no report need name it.
    tables.removeMember(member);
    return done(index);
  }
  if (member.status === 'voter' && membershipOf(tables)?.voters.length === 1) {
    return refused(
      'conflict',
      `"${member.name}" is the last voter: without it nothing could be decided any more. Promote another member first`,
    );
  }
  if (leaveBehind(tables, index, [member], { reason: 'removed', atMs })) return done(index);
  return refused(
    'limit',
    `${clusterLimits.formerMembersMax} former members are not known to be destroyed, the most there may be: say which are (xksctl cluster forget NODE --destroyed)`,
  );
}

function forget(tables: Tables, index: number, command: MemberCommandOf<'member.forget'>): CommandResult {
  const { member } = command;
  const byId = tables.formerMember(member);
  const formers = byId === null ? [...tables.formerMembers()].filter(({ name }) => name === member) : [byId];
  const [first] = formers;
  if (first === undefined) {
    const isMember = (tables.member(member) ?? tables.memberByName(member)) !== null;
    return refused(
      isMember ? 'conflict' : 'not-found',
      isMember
        ? `"${member}" is a member: remove it first (xksctl cluster remove ${member})`
        : `there is no former member "${member}" (xksctl cluster status)`,
    );
  }
  const remaining = formers.filter(({ destroyed }) => !destroyed);
  if (remaining.length === 0) return done(first.revision);
  for (const former of remaining) tables.putFormerMember({ ...former, destroyed: true, revision: index });
  return done(index);
}

function update(tables: Tables, index: number, command: MemberCommandOf<'member.update'>): CommandResult {
  const { memberId, address } = command;
  const member = tables.member(memberId);
  if (member === null) return noMember(tables, memberId);
  if (member.address === address) return done(member.revision);
  tables.putMember({ ...member, address, revision: index });
  return done(index);
}

function refusedAsFormer(tables: Tables, memberId: string): CommandResult | null {
  const former = tables.formerMember(memberId);
  return former === null
    ? null
    : refused(
        'conflict',
        `member ${memberId} ("${former.name}") was ${former.reason === 'removed' ? 'removed' : 'left behind by a recovery'}, for good: a machine that comes back is a new member, with a new data directory`,
      );
}

function noMember(tables: Tables, memberId: string): CommandResult {
  return (
    refusedAsFormer(tables, memberId) ??
    refused('not-found', `there is no member ${memberId} (xksctl cluster status)`)
  );
}
