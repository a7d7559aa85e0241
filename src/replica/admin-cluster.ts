import { createHash } from 'node:crypto';
import { encodeHex } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import type { Member } from '../keystate/cluster-types.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';
import { clusterStatus, describeMember } from './cluster-status.js';
import { encodeJoinToken } from './join-token.js';
import { askMember, atLeader } from './leader-answer.js';
import { successorOf } from './successor.js';
import { membersBehind, reachableWithinMs } from './upgrade-gate.js';

const joinSecretBytes = 32;
const memberIdBytes = 16;
const inviteSecondsDefault = 24 * 60 * 60;
/** A learner that lacks more entries than this is not yet caught up. */
const promoteLagEntriesMax = 100;
/** How long a change of leader or members may take to be seen everywhere: an election, and reports each second. */
const settleMsMax = 5_000;
const lookMs = 20;
/** An election may be under way. */
const readTimeoutMs = 2_000;

const tokenGone = (name: string): AdminError => ({
  code: 'already-exists',
  message:
    `${name} was invited by the first of these requests already, and its join token cannot be shown again. ` +
    `Withdraw that invitation (xksctl cluster remove ${name}), and add it again without --request-id.`,
});

export function clusterHandlers(context: AdminContext): NounHandlers<'cluster'> {
  const { proposer, cluster, clock, random } = context;

  const leaderId = (): string | null => cluster.status().raft.leader;

  function find(name: string): Result<Member, AdminError> {
    const member = context.state.memberByName(name);
    if (member !== null) return ok(member);
    return err({
      byState: true,
      code: 'not-found',
      message: `The cluster has no member ${name}; \`xksctl cluster status\` shows those it has.`,
    });
  }

  /** Also finds one whose removal is asked for again, under the same request id. */
  function findOrRemoved(
    name: string,
    caller: AdminCaller,
  ): Result<{ readonly memberId: string; readonly status: Member['status'] | 'removed' }, AdminError> {
    const member = find(name);
    if (member.ok || context.state.outcomeOf(caller.requestId)?.ok !== true) return member;
    const former = [...context.state.formerMembers()].filter((one) => one.name === name).at(-1);
    return former === undefined ? member : ok({ memberId: former.memberId, status: 'removed' });
  }

  /** Voters heard of lately, this node included. */
  function reachableVoters(): Set<string> {
    const { reports } = cluster.status();
    const nowMs = cluster.bootTimeMs();
    const heard = reports.filter(({ receivedAtMs }) => nowMs - receivedAtMs <= reachableWithinMs);
    const reachable = new Set(heard.map(({ memberId }) => memberId));
    reachable.add(cluster.memberId);
    const voters = [...context.state.members()].filter(({ status }) => status === 'voter');
    return new Set(voters.map(({ memberId }) => memberId).filter((id) => reachable.has(id)));
  }

  const quorumOf = (voters: number): number => Math.floor(voters / 2) + 1;

  const voterCount = (): number =>
    [...context.state.members()].filter(({ status }) => status === 'voter').length;

  return {
    'cluster.status': async () => ok(clusterStatus(context)),

    'cluster.add': async ({ name, address, expiresSeconds }, caller) => {
      const { state } = context;
      if (state.outcomeOf(caller.requestId)?.ok === true) return err(tokenGone(name));
      const namesake = state.memberByName(name);
      // An invitation that has expired is replaced: key state knows.
      if (namesake !== null && namesake.status !== 'invited') {
        return err({
          byState: true,
          code: 'already-exists',
          message:
            `The cluster has a member ${name} already. A node whose disk was lost comes back as a new member: ` +
            `\`xksctl cluster remove ${name}\` first.`,
        });
      }
      const neighbour = [...state.members()].find((one) => one.address === address && one.name !== name);
      if (neighbour !== undefined) {
        return err({
          byState: true,
          code: 'conflict',
          message: `${address} is the address of member ${neighbour.name}: give that of ${name}.`,
        });
      }
      const secret = random.bytes(joinSecretBytes);
      const memberId = encodeHex(random.bytes(memberIdBytes));
      const expiresAtMs = clock.wallMs() + (expiresSeconds ?? inviteSecondsDefault) * 1_000;
      const joinSecretDigest = createHash('sha256').update(secret).digest('hex');
      const report = await proposer.propose(
        { type: 'member.add', memberId, name, address, joinSecretDigest, expiresAtMs },
        caller,
      );
      if (!report.ok) return report;
      if (report.value.repeated) return err(tokenGone(name));
      const peers = [...context.state.members()]
        .filter(({ status }) => status === 'voter')
        .map(({ memberId: id, name: peer, address: at }) => ({ memberId: id, name: peer, address: at }));
      const joinToken = encodeJoinToken({
        clusterId: cluster.clusterId,
        memberId,
        nodeName: name,
        secret: encodeHex(secret),
        peers,
      });
      secret.fill(0);
      const member = find(name);
      if (!member.ok) return member;
      return ok({
        member: describeMember(context, member.value),
        change: report.value,
        joinToken,
        expiresAtMs,
      });
    },

    'cluster.promote': async ({ name, force }, caller) => {
      const elsewhere = await atLeader(cluster, 'cluster.promote', { name, ...(force && { force }) }, caller);
      if (elsewhere !== null) return elsewhere;
      const member = find(name);
      if (!member.ok) return member;
      const { memberId, status } = member.value;
      if (status === 'invited') {
        return err({
          byState: true,
          code: 'refused',
          message: `${name} has not joined yet: run \`xksctl cluster join\` with its token there, and start it.`,
        });
      }
      const objection = force === true || status === 'voter' ? null : promotionObjection(memberId, name);
      if (objection !== null) return err(objection);
      const report = await proposer.propose({ type: 'member.promote', memberId }, caller);
      if (!report.ok) return report;
      const promoted = find(name);
      if (!promoted.ok) return promoted;
      return ok({ member: describeMember(context, promoted.value), change: report.value });
    },

    'cluster.remove': async ({ name, force }, caller) => {
      const elsewhere = await atLeader(cluster, 'cluster.remove', { name, ...(force && { force }) }, caller);
      if (elsewhere !== null) return elsewhere;
      const member = findOrRemoved(name, caller);
      if (!member.ok) return member;
      const { memberId, status } = member.value;
      if (status === 'voter' && force !== true) {
        const reachable = reachableVoters();
        reachable.delete(memberId);
        const left = voterCount() - 1;
        if (reachable.size < quorumOf(left)) {
          return err({
            code: 'refused',
            message:
              `Without ${name}, ${left} voters are left, and ${reachable.size} of them can be reached: no change ` +
              'could be made any more. Bring the others back first; or repeat with --force.',
          });
        }
      }
      if (memberId === cluster.memberId && status === 'voter') {
        // One that is gone hears no more of the others, and could not say when it may be turned off.
        const led = await handOver();
        if (led !== null) {
          const body = { name, ...(force && { force }) };
          return led.ok ? askMember(cluster, led.value, 'cluster.remove', body, caller) : led;
        }
      }
      const report = await proposer.propose({ type: 'member.remove', memberId }, caller);
      if (!report.ok) return report;
      // One that had not joined holds no key state and has no vote.
      if (status === 'invited') return ok({ name, memberId, status, change: report.value, unapplied: [] });
      const { index } = report.value;
      await until(() => votersBefore(index).length === 0);
      return ok({ name, memberId, status, change: report.value, unapplied: votersBefore(index) });
    },

    'cluster.forget': async ({ name }, caller) => {
      const former = [...context.state.formerMembers()].find(
        (one) => one.name === name || one.memberId === name,
      );
      if (former === undefined) {
        return err({
          byState: true,
          code: 'not-found',
          message: `${name} is no former member; \`xksctl cluster status\` shows those there are.`,
        });
      }
      const { memberId } = former;
      const report = await proposer.propose(
        { type: 'member.forget', member: memberId, destroyed: true },
        caller,
      );
      return report.ok ? ok({ name: former.name, memberId, change: report.value }) : report;
    },

    'cluster.transfer': async ({ to }, caller) => {
      const member = find(to);
      if (!member.ok) return member;
      const elsewhere = await atLeader(cluster, 'cluster.transfer', { to }, caller);
      if (elsewhere !== null) return elsewhere;
      const { memberId } = member.value;
      if (memberId !== cluster.memberId && !cluster.transferLeadership(memberId)) {
        return err({ code: 'refused', message: `${to} is no voter: only voters lead.` });
      }
      return awaitLeader(memberId, to);
    },

    'cluster.upgrade': async (request, caller) => {
      const { formatMax } = cluster;
      // Of the leader too: one of an earlier release would see nothing to be done.
      const objection = upgradeObjection();
      if (objection !== null) return err(objection);
      const elsewhere = await atLeader(cluster, 'cluster.upgrade', request, caller);
      if (elsewhere !== null) return elsewhere;
      // A member may have joined that is not known here yet.
      const read = await cluster.readIndex(readTimeoutMs);
      if (!read.ok) return read;
      const objectionNow = upgradeObjection();
      if (objectionNow !== null) return err(objectionNow);
      if (context.state.activeFormat() >= formatMax) {
        return ok({ activeFormat: formatMax, change: null, joinedMeanwhile: [] });
      }
      const lookedAt = context.state.appliedIndex;
      const report = await proposer.propose({ type: 'cluster.upgrade', format: formatMax }, caller);
      if (!report.ok) return report;
      // A cluster of one from before there were members gets its first.
      const founded = await cluster.found();
      if (!founded.ok) return err({ code: 'failed', message: founded.error });
      const { state } = context;
      const joinedMeanwhile = [...membersBehind(formatMax, known(), lookedAt)];
      return ok({ activeFormat: state.activeFormat(), change: report.value, joinedMeanwhile });
    },
  };

  /** What this node knows of the others' releases. */
  function known(): Parameters<typeof membersBehind>[1] {
    return {
      memberId: cluster.memberId,
      state: context.state,
      reports: cluster.status().reports,
      nowMs: cluster.bootTimeMs(),
    };
  }

  function upgradeObjection(): AdminError | null {
    const behind = membersBehind(cluster.formatMax, known());
    if (behind.length === 0) return null;
    return {
      code: 'refused',
      message: `Not every member is known to run this release: ${behind.join('; ')}. Nothing was changed.`,
    };
  }

  function promotionObjection(memberId: string, name: string): AdminError | null {
    const { raft } = cluster.status();
    const progress = raft.progress.find((peer) => peer.memberId === memberId);
    if (progress?.lostAcknowledged === true) {
      return {
        code: 'refused',
        message: `${name} has lost what it had acknowledged: remove it, empty its data directory and add it anew.`,
      };
    }
    const lag = raft.lastIndex - (progress?.matchIndex ?? 0);
    if (progress === undefined || !progress.recentlyActive) {
      return {
        code: 'refused',
        message: `${name} does not answer: a voter that is not there weakens the cluster. Start it, or repeat with --force.`,
      };
    }
    // That it talks does not say that it can write.
    if (progress.matchIndex === 0) {
      return {
        code: 'refused',
        message: `${name} has not written any entry to its disk yet: wait until it has, or repeat with --force.`,
      };
    }
    if (lag > promoteLagEntriesMax) {
      return {
        code: 'refused',
        message: `${name} lacks ${lag} entries yet: wait until it has caught up, or repeat with --force.`,
      };
    }
    const voters = voterCount() + 1;
    const reachable = reachableVoters().size + 1;
    if (reachable >= quorumOf(voters)) return null;
    return {
      code: 'refused',
      message:
        `With ${name}, ${voters} voters need ${quorumOf(voters)} for a quorum, and ${reachable} can be reached. ` +
        'Bring the others back first; or repeat with --force.',
    };
  }

  /** Has another voter lead. `null`: there is none to have. */
  async function handOver(): Promise<Result<string, AdminError> | null> {
    const successor = successorOf(cluster.status().raft);
    if (successor === null) return null;
    const { memberId } = successor;
    const begun = cluster.transferLeadership(memberId);
    if (begun && (await until(() => leaderId() === memberId))) return ok(memberId);
    const name = context.state.member(memberId)?.name ?? memberId;
    return err({
      code: 'timeout',
      message: `This node leads, and ${name} has not taken over: nothing was changed. Try again, or from another node.`,
    });
  }

  /** Names of the voters that are not known to have applied `index`, by their last reports. */
  function votersBefore(index: number): string[] {
    const { reports } = cluster.status();
    const applied = new Map(reports.map(({ memberId, report }) => [memberId, report.appliedIndex]));
    applied.set(cluster.memberId, context.state.appliedIndex);
    return [...context.state.members()]
      .filter(({ status, memberId }) => status === 'voter' && (applied.get(memberId) ?? 0) < index)
      .map(({ name }) => name);
  }

  async function awaitLeader(
    memberId: string,
    name: string,
  ): Promise<Result<AdminResponse<'cluster.transfer'>, AdminError>> {
    const leads = await until(() => leaderId() === memberId);
    if (leads) return ok({ leader: name, term: cluster.status().raft.term });
    const message = `${name} has not taken over within ${settleMsMax / 1_000} s; \`xksctl cluster status\` shows who leads.`;
    return err({ code: 'timeout', message });
  }

  /** Looks every `lookMs` until `holds`, for `settleMsMax` at most. */
  function until(holds: () => boolean): Promise<boolean> {
    const endMs = clock.monotonicMs() + settleMsMax;
    return new Promise((resolve) => {
      const look = (): void => {
        if (holds()) resolve(true);
        else if (clock.monotonicMs() >= endMs) resolve(false);
        else setTimeout(look, lookMs);
      };
      look();
    });
  }
}
