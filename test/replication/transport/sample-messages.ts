import type { Message } from '../../../src/raft/types.js';
import type { PeerMessage } from '../../../src/replication/peer-message.js';

const bytes = (...values: number[]): Uint8Array => Buffer.from(values);
const addressed = { from: 'm-a', to: 'm-b', term: 7 } as const;
const largest = Number.MAX_SAFE_INTEGER;
const snapshot = {
  ...addressed,
  kind: 'snapshot',
  position: { index: 100, term: 6 },
  membership: { voters: ['m-a', 'm-b', 'm-ü'], learners: ['m-d'] },
} as const satisfies Message;

const raftMessages: readonly Message[] = [
  {
    ...addressed,
    kind: 'preVote',
    lastLog: { index: 0, term: 0 },
    leadershipTransfer: false,
    committed: { index: 0, term: 0 },
  },
  {
    ...addressed,
    kind: 'vote',
    lastLog: { index: largest, term: 5 },
    leadershipTransfer: true,
    committed: { index: largest, term: 4 },
  },
  { ...addressed, kind: 'preVoteResponse', granted: true, committed: { index: 40, term: 6 } },
  { ...addressed, kind: 'voteResponse', granted: false, committed: { index: 0, term: 0 } },
  { ...addressed, kind: 'append', previous: { index: 0, term: 0 }, entries: [], commitIndex: 0 },
  {
    ...addressed,
    kind: 'append',
    previous: { index: 41, term: 6 },
    entries: [
      { index: 42, term: 6, kind: 'command', data: bytes(1, 2, 3) },
      { index: 43, term: 7, kind: 'noop', data: bytes() },
      { index: 44, term: 7, kind: 'membership', data: bytes(0, 255) },
    ],
    commitIndex: 41,
  },
  {
    ...addressed,
    kind: 'appendResponse',
    index: 44,
    rejected: false,
    hint: { index: 0, term: 0 },
    lastIndex: 44,
  },
  {
    ...addressed,
    kind: 'appendResponse',
    index: 41,
    rejected: true,
    hint: { index: 30, term: 4 },
    lastIndex: 35,
  },
  { ...addressed, kind: 'heartbeat', commitIndex: 44, readId: null },
  { ...addressed, kind: 'heartbeat', commitIndex: 0, readId: 'r-1' },
  { ...addressed, kind: 'heartbeatResponse', readId: null, lastIndex: 44 },
  { ...addressed, kind: 'heartbeatResponse', readId: 'r-1', lastIndex: 0 },
  snapshot,
  { ...snapshot, membership: { voters: [], learners: [] } },
  { ...addressed, kind: 'timeoutNow' },
  { ...addressed, kind: 'readIndex', readId: 'r-2' },
  { ...addressed, kind: 'readIndexResponse', readId: 'r-2', index: null },
  { ...addressed, kind: 'readIndexResponse', readId: 'r-2', index: 0 },
];

/** Of every kind, from `m-a` to `m-b`, with the values at their ends. */
export const sampleMessages: readonly PeerMessage[] = [
  ...raftMessages.map((message): PeerMessage => ({ kind: 'raft', message })),
  { kind: 'propose', proposalId: 'p-1', entryKind: 'command', command: bytes(9) },
  { kind: 'propose', proposalId: 'p-2', entryKind: 'membership', command: bytes() },
  { kind: 'proposeResponse', proposalId: 'p-1', position: { index: 45, term: 7 }, reason: '' },
  { kind: 'proposeResponse', proposalId: 'p-2', position: null, reason: 'not the leader' },
  { kind: 'snapshotChunk', message: snapshot, offset: 0, data: bytes(1, 2, 3, 4), last: false },
  { kind: 'snapshotChunk', message: snapshot, offset: largest, data: bytes(), last: true },
  { kind: 'snapshotChunkResponse', position: { index: 100, term: 6 }, nextOffset: 262_144 },
  { kind: 'snapshotChunkResponse', position: { index: 100, term: 6 }, nextOffset: 0 },
  { kind: 'snapshotChunkResponse', position: { index: 100, term: 6 }, nextOffset: -1 },
  {
    kind: 'report',
    report: {
      nodeName: 'xks-1',
      version: '0.1.0',
      formatMax: 2,
      configHash: 'c0ffee',
      wallMs: 1_768_478_400_000.25,
      appliedIndex: 44,
      servingAppliedIndex: 43,
      readyServingProcesses: 3,
      stateHashes: [
        { index: 32, hash: 'aa' },
        { index: 40, hash: 'bb' },
      ],
    },
  },
  {
    kind: 'report',
    report: {
      nodeName: 'xks-1',
      version: '',
      formatMax: 0,
      configHash: '',
      wallMs: 0,
      appliedIndex: 0,
      servingAppliedIndex: 0,
      readyServingProcesses: 0,
      stateHashes: [],
      members: [
        { memberId: 'm-a', name: 'xks-1', address: 'xks-1.example:7443' },
        { memberId: 'm-b', name: 'xks-2', address: '[2001:db8::2]:7443' },
      ],
    },
  },
];
