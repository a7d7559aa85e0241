import type { Message } from '../../src/raft/types.js';
import type { PeerMessage } from '../../src/replication/peer-message.js';

function raftText(message: Message): string {
  const head = `${message.kind} t${message.term}`;
  switch (message.kind) {
    case 'preVote':
    case 'vote':
      return `${head} last ${message.lastLog.index}/${message.lastLog.term}${message.leadershipTransfer ? ' transfer' : ''}`;
    case 'preVoteResponse':
    case 'voteResponse':
      return `${head} ${message.granted ? 'granted' : 'refused'}`;
    case 'append': {
      const { previous, entries, commitIndex } = message;
      const list = entries.map(({ index, term }) => `${index}/${term}`).join(' ');
      return `${head} after ${previous.index}/${previous.term} [${list}] commit ${commitIndex}`;
    }
    case 'appendResponse':
      return `${head} ${message.rejected ? `rejected ${message.index}, hint ${message.hint.index}/${message.hint.term}` : `matches ${message.index}`}, last ${message.lastIndex}`;
    case 'heartbeat':
      return `${head} commit ${message.commitIndex} round ${message.readId ?? '-'}`;
    case 'heartbeatResponse':
      return `${head} round ${message.readId ?? '-'}, last ${message.lastIndex}`;
    case 'snapshot':
      return `${head} as of ${message.position.index}/${message.position.term}`;
    case 'timeoutNow':
      return head;
    case 'readIndex':
      return `${head} ${message.readId}`;
    case 'readIndexResponse':
      return `${head} ${message.readId} = ${message.index ?? 'none'}`;
  }
}

/** One line for the trace. */
export function messageText(message: PeerMessage): string {
  switch (message.kind) {
    case 'raft':
      return raftText(message.message);
    case 'propose':
      return `propose ${message.proposalId}`;
    case 'proposeResponse': {
      const { position, proposalId, reason } = message;
      return `proposeResponse ${proposalId} ${position === null ? `refused: ${reason}` : `at ${position.index}/${position.term}`}`;
    }
    case 'snapshotChunk':
      return `snapshotChunk of ${message.message.position.index} from byte ${message.offset}${message.last ? ', last' : ''}`;
    case 'snapshotChunkResponse':
      return `snapshotChunkResponse of ${message.position.index}: next byte ${message.nextOffset}`;
    case 'report':
      return `report applied ${message.report.appliedIndex}`;
  }
}
