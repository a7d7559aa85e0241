import { invariant, unreachable } from '../../base/guards.js';
import type { Entry, EntryKind, MemberId, Message } from '../../raft/types.js';
import * as wire from './generated/peer.js';
import { checkedId, checkedMembership, checkedPosition, MalformedMessage } from './wire-checks.js';

type RaftKind = NonNullable<wire.Raft['kind']>;

const entryKindNumbers = {
  command: wire.EntryKind.ENTRY_KIND_COMMAND,
  membership: wire.EntryKind.ENTRY_KIND_MEMBERSHIP,
  noop: wire.EntryKind.ENTRY_KIND_NOOP,
} as const satisfies Record<EntryKind, number>;

export function encodeEntryKind(kind: EntryKind): wire.EntryKind {
  return entryKindNumbers[kind];
}

export function decodeEntryKind(value: wire.EntryKind): EntryKind {
  switch (value) {
    case wire.EntryKind.ENTRY_KIND_COMMAND:
      return 'command';
    case wire.EntryKind.ENTRY_KIND_MEMBERSHIP:
      return 'membership';
    case wire.EntryKind.ENTRY_KIND_NOOP:
      return 'noop';
    default:
      throw new MalformedMessage(`entry kind ${String(value)}`);
  }
}

/** Sender and receiver are not in it: the envelope has them, and they are checked there. */
export function encodeRaft(message: Message): wire.Raft {
  return { term: message.term, kind: encodeKind(message) };
}

function encodeKind(message: Message): RaftKind {
  switch (message.kind) {
    case 'preVote':
    case 'vote': {
      const { lastLog, leadershipTransfer, committed } = message;
      return { $case: message.kind, value: { lastLog, leadershipTransfer, committed } };
    }
    case 'preVoteResponse':
    case 'voteResponse':
      return { $case: message.kind, value: { granted: message.granted, committed: message.committed } };
    case 'append': {
      const { previous, entries, commitIndex } = message;
      return {
        $case: 'append',
        value: {
          previous,
          entries: entries.map((entry, offset) => encodeEntry(entry, previous.index + 1 + offset)),
          commitIndex,
        },
      };
    }
    case 'appendResponse': {
      const { index, rejected, hint, lastIndex } = message;
      return { $case: 'appendResponse', value: { index, rejected, hint, lastIndex } };
    }
    case 'heartbeat':
      return {
        $case: 'heartbeat',
        value: { commitIndex: message.commitIndex, readId: message.readId ?? undefined },
      };
    case 'heartbeatResponse':
      return {
        $case: 'heartbeatResponse',
        value: { readId: message.readId ?? undefined, lastIndex: message.lastIndex },
      };
    case 'snapshot':
      return { $case: 'snapshot', value: encodeSnapshot(message) };
    case 'timeoutNow':
      return { $case: 'timeoutNow', value: {} };
    case 'readIndex':
      return { $case: 'readIndex', value: { readId: message.readId } };
    case 'readIndexResponse':
      return {
        $case: 'readIndexResponse',
        value: { readId: message.readId, index: message.index ?? undefined },
      };
    default:
      return unreachable(message);
  }
}

function encodeEntry(entry: Entry, index: number): wire.Entry {
  invariant(entry.index === index, `entry ${entry.index} sent in the place of entry ${index}`);
  return { term: entry.term, kind: encodeEntryKind(entry.kind), data: entry.data };
}

export function encodeSnapshot(message: Extract<Message, { kind: 'snapshot' }>): wire.Snapshot {
  const { voters, learners } = message.membership;
  return { position: message.position, voters, learners };
}

/** `null`: of a kind that a newer version knows. Throws `MalformedMessage`. */
export function decodeRaft(raft: wire.Raft, from: MemberId, to: MemberId): Message | null {
  const { term, kind } = raft;
  const addressed = { from, to, term };
  if (kind === undefined) return null;
  switch (kind.$case) {
    case 'preVote':
    case 'vote':
      return {
        ...addressed,
        kind: kind.$case,
        lastLog: checkedPosition(kind.value.lastLog, 'last log position'),
        leadershipTransfer: kind.value.leadershipTransfer,
        committed: checkedPosition(kind.value.committed, 'committed position'),
      };
    case 'preVoteResponse':
    case 'voteResponse':
      return {
        ...addressed,
        kind: kind.$case,
        granted: kind.value.granted,
        committed: checkedPosition(kind.value.committed, 'committed position'),
      };
    case 'append': {
      const { previous, entries, commitIndex } = kind.value;
      const { index, term: previousTerm } = checkedPosition(previous, 'previous position');
      return {
        ...addressed,
        kind: 'append',
        previous: { index, term: previousTerm },
        entries: entries.map((entry, offset) => decodeEntry(entry, index + 1 + offset)),
        commitIndex,
      };
    }
    case 'appendResponse': {
      const { index, rejected, hint, lastIndex } = kind.value;
      return {
        ...addressed,
        kind: 'appendResponse',
        index,
        rejected,
        hint: checkedPosition(hint, 'hint'),
        lastIndex,
      };
    }
    case 'heartbeat':
      return {
        ...addressed,
        kind: 'heartbeat',
        commitIndex: kind.value.commitIndex,
        readId: decodeReadId(kind.value.readId),
      };
    case 'heartbeatResponse':
      return {
        ...addressed,
        kind: 'heartbeatResponse',
        readId: decodeReadId(kind.value.readId),
        lastIndex: kind.value.lastIndex,
      };
    case 'snapshot':
      return decodeSnapshot(kind.value, term, from, to);
    case 'timeoutNow':
      return { ...addressed, kind: 'timeoutNow' };
    case 'readIndex':
      return { ...addressed, kind: 'readIndex', readId: checkedId(kind.value.readId, 'read id') };
    case 'readIndexResponse':
      return {
        ...addressed,
        kind: 'readIndexResponse',
        readId: checkedId(kind.value.readId, 'read id'),
        index: kind.value.index ?? null,
      };
    default:
      return unreachable(kind);
  }
}

function decodeReadId(readId: string | undefined): string | null {
  return readId === undefined ? null : checkedId(readId, 'read id');
}

function decodeEntry({ term, kind, data }: wire.Entry, index: number): Entry {
  if (!Number.isSafeInteger(index)) throw new MalformedMessage(`entry ${index}`);
  return { index, term, kind: decodeEntryKind(kind), data };
}

export function decodeSnapshot(
  snapshot: wire.Snapshot,
  term: number,
  from: MemberId,
  to: MemberId,
): Extract<Message, { kind: 'snapshot' }> {
  return {
    kind: 'snapshot',
    from,
    to,
    term,
    position: checkedPosition(snapshot.position, 'snapshot position'),
    membership: checkedMembership(snapshot.voters, snapshot.learners),
  };
}
