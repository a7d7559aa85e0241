import t from 'tap';
import { clusterLimits } from '../../../src/keystate/cluster-types.js';
import type { PeerEnvelope, PeerMessage } from '../../../src/replication/peer-message.js';
import { decodeEnvelope, encodeEnvelope } from '../../../src/replication/transport/envelope-codec.js';
import * as wire from '../../../src/replication/transport/generated/peer.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { sampleMessages } from './sample-messages.js';

const envelope = (message: PeerMessage): PeerEnvelope => ({
  format: 2,
  clusterId: 'cluster-1',
  from: 'm-a',
  to: 'm-b',
  message,
});

const nameOf = (message: PeerMessage): string =>
  message.kind === 'raft' ? message.message.kind : message.kind;

/** Bytes as such: of an empty field the decoder makes a Uint8Array, of others the Buffer that it was given. */
function withPlainBytes(value: unknown): unknown {
  if (value instanceof Uint8Array) return { hex: Buffer.from(value).toString('hex') };
  if (Array.isArray(value)) return value.map(withPlainBytes);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, withPlainBytes(each)]));
}

t.test('every kind of message comes out as it went in', async (t) => {
  for (const message of sampleMessages) {
    const decoded = decodeEnvelope(encodeEnvelope(envelope(message)));
    const sent = { ok: true, value: envelope(message) };
    t.strictSame(withPlainBytes(decoded), withPlainBytes(sent), nameOf(message));
  }
  const kinds = new Set(sampleMessages.map(nameOf));
  t.equal(kinds.size, 12 + 5, 'twelve of raft, five others');
});

t.test('the big fields are views of what was received', async (t) => {
  for (const message of sampleMessages) {
    const bytes = encodeEnvelope(envelope(message));
    const decoded = decodeEnvelope(bytes);
    const received = decoded.ok ? decoded.value.message : null;
    const data =
      received?.kind === 'snapshotChunk'
        ? received.data
        : received?.kind === 'raft' && received.message.kind === 'append'
          ? received.message.entries[0]?.data
          : undefined;
    if (data !== undefined && data.byteLength > 0) t.equal(data.buffer, bytes.buffer, nameOf(message));
  }
});

t.test('a message cut short anywhere is refused or ignored, never taken for a whole one', async (t) => {
  for (const message of sampleMessages) {
    const bytes = encodeEnvelope(envelope(message));
    for (let length = 0; length < bytes.byteLength; length++) {
      const decoded = decodeEnvelope(bytes.subarray(0, length));
      if (decoded.ok && decoded.value.message !== null) t.fail(`${nameOf(message)} of ${length} bytes taken`);
    }
  }
  t.equal(decodeEnvelope(Buffer.alloc(0)).ok, false);
});

t.test('random garbage and damaged messages never throw', async (t) => {
  const random = new SeededRandom(20_260_115);
  let refused = 0;
  for (let run = 0; run < 6_000; run++) {
    const bytes =
      run % 3 === 0
        ? Buffer.from(random.bytes(random.integer(200)))
        : encodeEnvelope(envelope(random.pick(sampleMessages)));
    for (let damage = run % 3; damage > 0; damage--)
      bytes[random.integer(bytes.byteLength)] = random.integer(256);
    const decoded = decodeEnvelope(bytes);
    if (!decoded.ok) refused += 1;
    // What is taken can be sent on.
    else if (decoded.value.message !== null)
      encodeEnvelope({ ...decoded.value, message: decoded.value.message });
  }
  t.ok(refused > 2_000, `${refused} of 6,000 refused`);
});

/** An envelope that TypeScript would not let through. */
const raw = (message: wire.Envelope['message'], changes: Partial<wire.Envelope> = {}): Buffer =>
  Buffer.from(
    wire.Envelope.encode({ format: 1, clusterId: 'c', from: 'm-a', to: 'm-b', message, ...changes }).finish(),
  );

const report = (changes: Partial<wire.Report>): Buffer =>
  raw({
    $case: 'report',
    value: {
      ...{ nodeName: 'a', version: '', formatMax: 1, configHash: '', wallMs: 0, appliedIndex: 0 },
      ...{ servingAppliedIndex: 0, readyServingProcesses: 0, stateHashes: [], members: [], ...changes },
    },
  });

t.test('every member that key state takes can be listed', async (t) => {
  const address = `${'x'.repeat(clusterLimits.addressCharactersMax - 5)}:7443`;
  const members = Array.from({ length: clusterLimits.membersMax }, (_, number) => ({
    memberId: `${number}`.repeat(64),
    name: 'n'.repeat(64),
    address,
  }));
  t.match(decodeEnvelope(report({ members })), { ok: true, value: { message: { report: { members } } } });
});

t.test('a listed member that is of no use does not cost the report', async (t) => {
  const good = { memberId: 'm', name: 'a', address: 'a:1' };
  const listed = (members: wire.Member[]): unknown => {
    const decoded = decodeEnvelope(report({ members }));
    return decoded.ok && decoded.value.message?.kind === 'report'
      ? decoded.value.message.report.members
      : decoded;
  };
  const bad: readonly wire.Member[] = [
    { ...good, memberId: '' },
    { ...good, name: 'x'.repeat(256) },
    { ...good, address: '' },
    { ...good, address: 'x'.repeat(263) },
  ];
  for (const member of bad) t.strictSame(listed([member, good]), [good]);
  t.strictSame(listed(bad.slice()), undefined, 'as from a release that lists none');
  t.strictSame(listed(Array(300).fill(good)), Array(16).fill(good));
});

t.test('what no version sends is refused by name', async (t) => {
  const position = { index: 1, term: 1 };
  const raft = (kind: wire.Raft['kind']): Buffer => raw({ $case: 'raft', value: { term: 1, kind } });
  const long = 'x'.repeat(256);
  const cases: readonly [Buffer, string][] = [
    [raw(undefined, { clusterId: '' }), 'cluster id of 0 characters'],
    [raw(undefined, { from: long }), 'sender of 256 characters'],
    [raw(undefined, { to: '' }), 'receiver of 0 characters'],
    [
      raft({
        $case: 'vote',
        value: { lastLog: undefined, leadershipTransfer: false, committed: position },
      }),
      'no last log position',
    ],
    [
      raft({ $case: 'voteResponse', value: { granted: false, committed: undefined } }),
      'no committed position',
    ],
    [
      raft({ $case: 'append', value: { previous: undefined, entries: [], commitIndex: 0 } }),
      'no previous position',
    ],
    [
      raft({
        $case: 'append',
        value: { previous: position, entries: [{ term: 1, kind: 0, data: Buffer.alloc(0) }], commitIndex: 0 },
      }),
      'entry kind 0',
    ],
    [
      raft({
        $case: 'append',
        value: {
          previous: { index: Number.MAX_SAFE_INTEGER, term: 1 },
          entries: [{ term: 1, kind: 1, data: Buffer.alloc(0) }],
          commitIndex: 0,
        },
      }),
      'entry 9007199254740992',
    ],
    [
      raft({ $case: 'appendResponse', value: { index: 1, rejected: true, hint: undefined, lastIndex: 1 } }),
      'no hint',
    ],
    [raft({ $case: 'heartbeat', value: { commitIndex: 1, readId: '' } }), 'read id of 0 characters'],
    [raft({ $case: 'readIndex', value: { readId: long } }), 'read id of 256 characters'],
    [
      raft({ $case: 'snapshot', value: { position, voters: Array(256).fill('m'), learners: [] } }),
      '256 members of one kind',
    ],
    [
      raft({ $case: 'snapshot', value: { position, voters: [''], learners: [] } }),
      'member id of 0 characters',
    ],
    [
      raw({ $case: 'propose', value: { proposalId: 'p', entryKind: 3, command: Buffer.alloc(0) } }),
      'a noop proposed',
    ],
    [
      raw({
        $case: 'proposeResponse',
        value: { proposalId: 'p', position: undefined, reason: 'x'.repeat(4_097) },
      }),
      'reason of 4097 characters',
    ],
    [
      raw({
        $case: 'snapshotChunk',
        value: { term: 1, snapshot: undefined, offset: 0, data: Buffer.alloc(0), last: false },
      }),
      'no snapshot',
    ],
    [report({ wallMs: Number.NaN }), 'a clock that is no number'],
    [report({ nodeName: '' }), 'node name of 0 characters'],
    [report({ stateHashes: Array(1_025).fill({ index: 1, hash: 'a' }) }), '1025 state hashes'],
  ];
  for (const [bytes, expected] of cases) t.strictSame(decodeEnvelope(bytes), { ok: false, error: expected });
});

t.test('an index beyond the safe integers is refused', async (t) => {
  const bytes = raw({
    $case: 'raft',
    value: { term: Number.MAX_SAFE_INTEGER, kind: { $case: 'timeoutNow', value: {} } },
  });
  t.ok(decodeEnvelope(bytes).ok);
  // The term is the one varint of eight bytes: 2^53 - 1 ends in 0x0f.
  const place = bytes.indexOf(Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]));
  t.ok(place > 0);
  bytes[place + 7] = 0x1f;
  t.strictSame(decodeEnvelope(bytes), { ok: false, error: 'not a protocol buffer of ours' });
});

t.test('kinds that a newer version knows are told apart from damage', async (t) => {
  const unknownField = Buffer.from([0xfa, 0x06, 0x01, 0x00]);
  const newer = decodeEnvelope(Buffer.concat([raw(undefined), unknownField]));
  t.match(newer, { ok: true, value: { from: 'm-a', message: null } });
  const newerRaft = decodeEnvelope(raw({ $case: 'raft', value: { term: 1, kind: undefined } }));
  t.match(newerRaft, { ok: true, value: { message: null } });
});

t.test('our own mistakes are not sent', async (t) => {
  const [first] = sampleMessages;
  if (first?.kind !== 'raft') throw new Error('the first sample is of raft');
  t.throws(() => encodeEnvelope({ ...envelope(first), to: 'm-c' }), /another member/);
  t.throws(
    () =>
      encodeEnvelope(
        envelope({
          kind: 'raft',
          message: {
            ...{ kind: 'append', from: 'm-a', to: 'm-b', term: 1, commitIndex: 0 },
            previous: { index: 1, term: 1 },
            entries: [{ index: 3, term: 1, kind: 'command', data: Buffer.alloc(0) }],
          },
        }),
      ),
    /entry 3 sent in the place of entry 2/,
  );
});
