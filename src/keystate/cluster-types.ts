import type { CommandType, Credential, OnIsolation } from './types.js';

/** What key state knows of the cluster itself: who is in it, how it is set, and what a recovery left open. */

/**
 * `invited`: holds a join token; neither votes nor gets the log. `learner`: gets the log. `voter`: counts for the
 * quorum.
 */
export type MemberStatus = 'invited' | 'learner' | 'voter';

export interface Member {
  /** Random, never given to another member. */
  readonly memberId: string;
  /** The node's, as in the SAN of its certificate. Unique among members. */
  readonly name: string;
  /** `host:port` of its peer listener. */
  readonly address: string;
  readonly status: MemberStatus;
  /** SHA-256 of the join secret, hexadecimal: good for one member until it votes; `null` then. */
  readonly joinSecretDigest: string | null;
  readonly invitedAtMs: number;
  readonly inviteExpiresAtMs: number;
  /** Log index at which it became learner or founder; `null` while invited. */
  readonly joinedIndex: number | null;
  /** Log index of the last change. */
  readonly revision: number;
}

/** May still serve with the key state that it had, until it is known to be destroyed (replication.md 14). */
export interface FormerMember {
  readonly memberId: string;
  readonly name: string;
  readonly removedAtMs: number;
  /** `recovered`: left behind by a recovery from lost quorum. */
  readonly reason: 'removed' | 'recovered';
  /** `xksctl cluster forget --destroyed`: in no report any more. */
  readonly destroyed: boolean;
  readonly revision: number;
}

/** Settings that safety depends on: the same on all nodes, so not in files (replication.md 15). */
export interface ClusterSettings {
  /** A follower that hears nothing campaigns after this many ticks, up to twice as many at random. */
  readonly electionTicks: number;
  readonly tickMs: number;
  readonly heartbeatTicks: number;
  /** Between two freshness rounds. */
  readonly freshnessIntervalMs: number;
  /** Freshness older than this at a cold start without quorum: nothing is served (replication.md 10). */
  readonly serveStaleMaxMs: number;
}

/** A command in the log beyond the durable commit index of a recovery: nobody knows whether it was acknowledged. */
export interface UnconfirmedGrant {
  readonly index: number;
  /** SHA-256 of the command's bytes, hexadecimal. */
  readonly digest: string;
  readonly type: GrantType;
  readonly keyStore: string;
  /** External key id or access key id; `null` for those of key stores. */
  readonly name: string | null;
}

export const grantTypes = [
  'keystore.create',
  'keystore.enable',
  'keystore.set',
  'credential.create',
  'key.create',
  'key.enable',
] as const satisfies readonly CommandType[];

export type GrantType = (typeof grantTypes)[number];

/** A grant that a recovery took back until somebody confirms it. What it granted is disabled meanwhile. */
export interface PendingGrant extends UnconfirmedGrant {
  /** Log index of the recovery, or of a sibling's confirmation: the object's too, unless it was changed since. */
  readonly revision: number;
}

/** With what the recovery took out of force: put back when it is confirmed. */
export interface PendingRow extends PendingGrant {
  readonly credential: Credential | null;
  readonly onIsolation: OnIsolation | null;
}

export type ClusterCommand =
  /** Raises the active format: numbered behaviour, in force from the next index on. */
  | { readonly type: 'cluster.upgrade'; readonly format: number }
  | { readonly type: 'cluster.settings'; readonly settings: ClusterSettings }
  /**
   * The survivor of a lost quorum goes on alone under a new cluster id. Again with the same ids: further `pending`.
   */
  | {
      readonly type: 'cluster.recover';
      readonly newClusterId: string;
      readonly survivor: { readonly memberId: string; readonly name: string; readonly address: string };
      /** Left behind, beyond those that are members here. */
      readonly formerMembers: readonly { readonly memberId: string; readonly name: string }[];
      readonly pending: readonly UnconfirmedGrant[];
    }
  /** The founder of a cluster from before there were members: becomes the only voter. */
  | {
      readonly type: 'member.register';
      readonly memberId: string;
      readonly name: string;
      readonly address: string;
    }
  | {
      readonly type: 'member.add';
      readonly memberId: string;
      readonly name: string;
      readonly address: string;
      readonly joinSecretDigest: string;
      readonly expiresAtMs: number;
    }
  /** An invited node shows its secret, by its digest, and says where it listens. */
  | {
      readonly type: 'member.join';
      readonly memberId: string;
      readonly joinSecretDigest: string;
      readonly address: string;
    }
  | { readonly type: 'member.promote'; readonly memberId: string }
  | { readonly type: 'member.remove'; readonly memberId: string }
  /** `member`: id, or name, which all former members of that name have. */
  | { readonly type: 'member.forget'; readonly member: string; readonly destroyed: boolean }
  | { readonly type: 'member.update'; readonly memberId: string; readonly address: string }
  /** `index`: of the pending grant. */
  | { readonly type: 'pending.confirm'; readonly index: number }
  | { readonly type: 'pending.drop'; readonly index: number };

/** What administration and replication ask about the cluster. */
export interface ClusterQueries {
  /** In order of invitation. */
  members(): Iterable<Member>;
  member(memberId: string): Member | null;
  memberByName(name: string): Member | null;
  formerMembers(): Iterable<FormerMember>;
  /** The defaults until a command sets others. */
  settings(): ClusterSettings;
  /** Numbered behaviour that is in force; 1 is that of the first release. */
  activeFormat(): number;
  /** By index. */
  pending(): Iterable<PendingGrant>;
}

export const clusterLimits = {
  /** Beyond 7 voters more cost more than they protect; two more for an exchange. */
  membersMax: 9,
  /** Those destroyed are forgotten first; with this many others no member can be removed before some are forgotten. */
  formerMembersMax: 64,
  addressCharactersMax: 262,
  inviteLifetimeMsMax: 7 * 24 * 3_600_000,
  pendingMax: 4_096,
  /** 64 KiB hold so many, with names of their greatest length. */
  pendingPerCommandMax: 128,
} as const;
