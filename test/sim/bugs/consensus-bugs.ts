import type { PlantedBug } from './planted-bug.js';

/** In the consensus core. */
export const consensusBugs: readonly PlantedBug[] = [
  {
    name: 'commit-prior-term-by-counting',
    origin: 'logcabin/logcabin#44',
    edits: [
      {
        file: 'raft/leader',
        find: 'index <= log.commitIndex || log.term(index) !== core.currentTerm',
        replace: 'index <= log.commitIndex',
      },
    ],
  },
  {
    name: 'read-before-own-term-commit',
    origin: 'etcd-io/etcd#7331',
    edits: [{ file: 'raft/read-index', find: 'core.hasCommittedInTerm()', replace: 'true' }],
  },
  {
    name: 'commit-beyond-verified',
    origin: 'scylladb/scylladb#9965, atomix/copycat#265',
    edits: [
      {
        file: 'raft/follower',
        find: 'log.commitTo(Math.min(message.commitIndex, lastVerified));',
        replace: 'log.commitTo(Math.min(message.commitIndex, log.lastIndex));',
      },
      // Where leaders go back in larger steps than to the very entry that differs, as they did there.
      {
        file: 'raft/follower',
        find: 'core.log.lastWithTermUpTo(previous.index, previous.term)',
        replace:
          'core.log.lastWithTermUpTo(Math.max(core.log.snapshotIndex, previous.index - 8), previous.term)',
      },
    ],
  },
  {
    name: 'heartbeat-commit-beyond-match',
    origin: 'etcd-io/raft, bcastHeartbeat; scylladb/scylladb#9965',
    edits: [
      {
        file: 'raft/heartbeat',
        find: 'Math.min(peer.matchIndex, core.log.commitIndex)',
        replace: 'core.log.commitIndex',
      },
      {
        file: 'raft/follower',
        find: 'Math.min(message.commitIndex, verifiedIndex(core))',
        replace: 'Math.min(message.commitIndex, core.log.lastIndex)',
      },
    ],
  },
  {
    name: 'delayed-append-cuts-suffix',
    origin: 'redpanda-data/redpanda#17731',
    edits: [
      {
        file: 'raft/follower',
        find: 'log.firstMissing(entries, Math.min(known, entries.length))',
        replace: 'Math.min(known, entries.length)',
      },
    ],
  },
  {
    name: 'vote-reset-within-term',
    origin: 'etcd-io/etcd#2461',
    edits: [
      {
        file: 'raft/core',
        find: 'this.#enterTerm(term, null);',
        replace: 'this.#enterTerm(term, null); this.votedFor = null;',
      },
    ],
  },
  {
    name: 'learner-refuses-vote',
    origin: 'etcd-io/etcd#10998',
    edits: [
      {
        file: 'raft/election',
        find: "const preVote = message.kind === 'preVote';",
        replace: "const preVote = message.kind === 'preVote'; if (!core.tracker.isVoter) return;",
      },
    ],
  },
  {
    name: 'lower-terms-unanswered',
    origin: 'etcd-io/etcd#8501, #8243',
    edits: [
      {
        file: 'raft/step',
        find: 'function handleLowerTerm(core, message) {',
        replace: 'function handleLowerTerm(core, message) { return;',
      },
    ],
  },
  {
    name: 'campaigns-with-unapplied-membership',
    origin: 'etcd-io/etcd#12133',
    edits: [
      { file: 'raft/core', find: '!this.log.hasUnappliedMembership()', replace: 'true' },
      // As it was there: entries are applied beside the core, which learns of them later. Here it would know at once.
      {
        file: 'replication/committed-entries',
        find: 'raft().applied(entry.index, applier.membership);',
        replace: `const late = (this.#options.late ??= []);
        late.push(applier.membership);
        raft().applied(entry.index, late.length > 20 ? late.shift() : late[0]);`,
      },
    ],
  },
  {
    name: 'own-log-counts-before-durable',
    origin: 'etcd-io/etcd#14370',
    edits: [
      {
        file: 'raft/leader',
        find: 'tracker.quorumMatchIndex(log.stableIndex)',
        replace: 'tracker.quorumMatchIndex(log.lastIndex)',
      },
      // Where it was found: proposed, counted and told to the client, all before the disk had it.
      {
        file: 'raft/leader',
        find: 'return ok({ index: entry.index, term: entry.term });',
        replace: 'maybeCommit(core); return ok({ index: entry.index, term: entry.term });',
      },
    ],
  },
  {
    name: 'compacted-previous-is-conflict',
    origin: 'databendlabs/openraft#511',
    edits: [
      {
        file: 'raft/follower',
        find: 'known === 0 && !log.matches(previous)',
        replace: '!log.matches(previous)',
      },
    ],
  },
  {
    name: 'stepping-down-cuts-log',
    origin: 'microsoft/CCF#5674',
    edits: [
      {
        file: 'raft/raft-log',
        find: 'bytesBetween(afterIndex, lastIndex) {',
        replace: `cutToCommit() {
        this.#entries.length = this.#commitIndex - this.#snapshotIndex;
        this.#stableIndex = Math.min(this.#stableIndex, this.#commitIndex);
        this.#persistingIndex = Math.min(this.#persistingIndex, this.#commitIndex);
    }
    bytesBetween(afterIndex, lastIndex) {`,
      },
      {
        file: 'raft/core',
        find: 'this.#enterTerm(term, null);',
        replace: 'if (term > this.currentTerm) this.log.cutToCommit(); this.#enterTerm(term, null);',
      },
    ],
  },
  {
    name: 'no-noop',
    origin: 'paper §8: a leader begins its term with an entry of its own',
    edits: [{ file: 'raft/core', find: 'log.append([noop]);', replace: '' }],
  },
  {
    name: 'lease-read',
    origin: 'paper §8: a leader must hear of a majority before it answers a read',
    edits: [{ file: 'raft/read-index', find: 'if (read.round > round)', replace: 'if (false)' }],
  },
  {
    name: 'read-confirmed-by-earlier-round',
    origin: 'etcd-io/raft#397: answers from before the read was asked count for it',
    edits: [
      {
        file: 'raft/read-index',
        find: 'if (!core.roundOpen)',
        replace: 'if (core.heartbeatRound === 0)',
      },
    ],
  },
  {
    name: 'learner-counted-in-quorum',
    origin: 'thesis §4.2.1: learners are not counted',
    edits: [{ file: 'raft/progress-tracker', find: 'if (!peer.learner)\n', replace: 'if (true)\n' }],
  },
  {
    name: 'removed-member-counted',
    origin: 'thesis §4.2: a member that was removed is in no quorum',
    edits: [
      {
        file: 'raft/progress-tracker',
        find: 'for (const memberId of learners)\n            track(memberId, true);',
        replace: `for (const memberId of learners)
            track(memberId, true);
        for (const memberId of [...this.#byId.keys()])
            if (!voters.includes(memberId) && !learners.includes(memberId)) track(memberId, false);`,
      },
    ],
  },
  {
    name: 'two-membership-changes-at-once',
    origin: 'thesis §4.1: one server at a time',
    edits: [
      {
        file: 'raft/leader',
        find: 'log.appliedIndex < core.pendingMembershipIndex',
        replace: 'false',
      },
    ],
  },
  {
    name: 'vote-without-log-check',
    origin: 'paper §5.4.1',
    edits: [{ file: 'raft/election', find: 'free && core.log.isUpToDate(message.lastLog)', replace: 'free' }],
  },
  {
    name: 'half-is-a-majority',
    origin: 'a quorum of half of an even number',
    edits: [
      {
        file: 'raft/quorum',
        find: 'Math.floor(voters / 2) + 1',
        replace: 'Math.max(1, Math.ceil(voters / 2))',
      },
    ],
  },
  {
    name: 'conflict-not-replaced',
    origin: 'paper §5.3: an entry of another term is replaced',
    edits: [
      {
        file: 'raft/raft-log',
        find: 'entry !== undefined && this.term(entry.index) !== entry.term',
        replace: 'entry !== undefined && this.term(entry.index) === null',
      },
    ],
  },
  {
    name: 'answers-of-earlier-terms-counted',
    origin: 'paper §5.1: what is said in an earlier term is stale',
    edits: [
      {
        file: 'raft/step',
        find: 'if (message.term < core.currentTerm) {',
        replace: "if (message.term < core.currentTerm && message.kind !== 'appendResponse') {",
      },
    ],
  },
  {
    name: 'commit-index-goes-back',
    origin: 'etcd-io/raft: the hard state of a restart is behind the one before',
    edits: [
      {
        file: 'raft/raft-node',
        find: 'return { term: currentTerm, votedFor, commitIndex: log.commitIndex };',
        replace: `const commitIndex = this.#core.role === 'leader' ? log.commitIndex : log.appliedIndex;
        return { term: currentTerm, votedFor, commitIndex };`,
      },
    ],
  },
  {
    name: 'any-vote-counts',
    origin: 'paper §5.2: votes are of one term; of pre-votes the same',
    edits: [
      {
        file: 'raft/election',
        find: 'message.granted && message.term !== core.currentTerm + 1',
        replace: 'false',
      },
      { file: 'raft/election', find: 'message.kind !== awaited', replace: 'false' },
    ],
  },
];
