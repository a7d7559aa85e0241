import t from 'tap';
import type { Restoration } from '../../../src/replication/ordered-log.js';
import { type PeerMessage, snapshotChunkBytes } from '../../../src/replication/peer-message.js';
import { SnapshotAssembly, SnapshotSource } from '../../../src/replication/snapshot-bytes.js';
import { SnapshotReceiver } from '../../../src/replication/snapshot-receiver.js';
import {
  type SnapshotMessage,
  SnapshotSender,
  snapshotSourcesMax,
} from '../../../src/replication/snapshot-sender.js';
import { SeededRandom } from '../../support/seeded-random.js';

type Chunk = Extract<PeerMessage, { kind: 'snapshotChunk' }>;

const members = { voters: ['a', 'b', 'c'], learners: [] };
const message = (to: string, index: number, term = 3): SnapshotMessage => ({
  kind: 'snapshot',
  from: 'a',
  to,
  term,
  position: { index, term: 2 },
  membership: members,
});

/** Of random lengths, some empty. */
function records(seed: number, count: number, bytesMax: number): Uint8Array[] {
  const random = new SeededRandom(seed);
  return Array.from({ length: count }, () =>
    new Uint8Array(random.integer(bytesMax + 1)).fill(random.integer(256)),
  );
}

const ignoring = (): Restoration => ({ take: () => {}, finish: () => {} });

const source = (of: readonly Uint8Array[], index = 10): SnapshotSource =>
  new SnapshotSource({ index, term: 2 }, members, of);

function chunksOf(of: SnapshotSource): Chunk[] {
  const chunks: Chunk[] = [];
  for (let offset = 0; ; ) {
    const chunk = of.chunkAt(offset, 1);
    if (typeof chunk === 'string') return chunks;
    chunks.push({ kind: 'snapshotChunk', message: message('b', of.position.index), ...chunk });
    if (chunk.last) return chunks;
    offset += chunk.data.byteLength;
  }
}

t.test('records go in as they come out, wherever the sequence is cut', async (t) => {
  for (const of of [[], [new Uint8Array(0)], records(1, 50, 30), records(2, 3, 1024 * 1024)]) {
    const bytes = Buffer.concat(chunksOf(source(of)).map(({ data }) => data));
    for (const cut of [1, 3, 7, 1_000_003]) {
      if (bytes.byteLength / cut > 10_000) continue;
      const assembly = new SnapshotAssembly();
      for (let offset = 0; offset < bytes.byteLength; offset += cut) {
        const last = offset + cut >= bytes.byteLength;
        const taken = assembly.take(bytes.subarray(offset, offset + cut), last);
        t.equal(taken.ok, true);
        if (!taken.ok || !last) continue;
        t.ok(
          taken.value?.length === of.length &&
            of.every((record, at) => Buffer.compare(record, taken.value?.[at] ?? Buffer.of(1)) === 0),
        );
      }
    }
  }
});

t.test('chunks are of one length, but for the last', async (t) => {
  const chunks = chunksOf(source(records(3, 20, 100_000)));
  t.ok(chunks.length > 3);
  t.same(new Set(chunks.slice(0, -1).map(({ data }) => data.byteLength)), new Set([snapshotChunkBytes]));
  t.same(
    chunks.map(({ last }) => last),
    chunks.map((_, at) => at === chunks.length - 1),
  );
});

t.test('a byte that was changed, a cut and an addition are refused', async (t) => {
  const bytes = Buffer.concat(chunksOf(source(records(4, 5, 20))).map(({ data }) => data));
  for (let at = 0; at < bytes.byteLength; at += 1) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 0x10;
    t.equal(new SnapshotAssembly().take(changed, true).ok, false);
    t.equal(new SnapshotAssembly().take(bytes.subarray(0, at), true).ok, false);
  }
  t.equal(new SnapshotAssembly().take(Buffer.concat([bytes, Buffer.of(0)]), true).ok, false);
});

t.test('the receiver takes chunks in order only, each once, and says where it is', async (t) => {
  const of = records(5, 20, 60_000);
  const [first, second, third, ...more] = chunksOf(source(of));
  if (first === undefined || second === undefined || third === undefined) throw new Error('too few chunks');
  t.same(more, []);
  const receiver = new SnapshotReceiver(ignoring);
  const receive = (chunk: Chunk) => receiver.receive('a', chunk, 3, 5);
  t.match(receive(second), { nextOffset: 0, received: null });
  t.match(receive(first), { nextOffset: snapshotChunkBytes });
  t.match(receive(first), { nextOffset: snapshotChunkBytes });
  t.match(receive(third), { nextOffset: snapshotChunkBytes });
  // From a build with other chunks: what is known of it is left out.
  const long = { ...second, offset: 1, data: Buffer.concat([first.data.subarray(1), second.data]) };
  t.match(receive(long), { nextOffset: 2 * snapshotChunkBytes });
  const { nextOffset, received } = receive(third);
  t.equal(nextOffset, 2 * snapshotChunkBytes + third.data.byteLength);
  t.equal(received?.records.length, of.length);
  t.match(receive(third), { nextOffset, received: null }, 'its answer was lost');
  receiver.refused();
  t.match(receive(first), { nextOffset: snapshotChunkBytes }, 'all anew');
});

t.test(
  'what a chunk makes whole is taken in with it; a sequence that begins anew is taken in anew',
  async (t) => {
    const of = records(5, 20, 60_000);
    const chunks = chunksOf(source(of));
    const restorations: Uint8Array[][] = [];
    const receiver = new SnapshotReceiver(() => {
      const taken: Uint8Array[] = [];
      restorations.push(taken);
      return { take: (record) => void taken.push(record), finish: () => {} };
    });
    const wholeAfter = (count: number): number => {
      const bytes = chunks.slice(0, count).reduce((sum, { data }) => sum + data.byteLength, 0);
      const endOf = (at: number): number =>
        of.slice(0, at + 1).reduce((sum, record) => sum + 4 + record.byteLength, 0);
      return of.filter((_, at) => endOf(at) <= bytes).length;
    };
    const [first] = chunks;
    if (first === undefined) throw new Error('no chunk');
    receiver.receive('a', first, 3, 5);
    receiver.receive('a', first, 3, 5);
    t.equal(restorations[0]?.length, wholeAfter(1), 'a chunk that comes twice is taken once');
    t.ok(wholeAfter(1) > 1 && wholeAfter(1) < of.length);
    const later = chunks.map((chunk) => ({ ...chunk, message: message('b', 11) }));
    let received = null;
    for (const [at, chunk] of later.entries()) {
      ({ received } = receiver.receive('a', chunk, 3, 5));
      t.equal(restorations[1]?.length, wholeAfter(at + 1));
    }
    t.equal(restorations.length, 2);
    t.equal(restorations[0]?.length, wholeAfter(1), 'the first got nothing of it');
    t.same(restorations[1]?.map(Buffer.from), of.map(Buffer.from));
    t.ok(received !== null);
  },
);

t.test('the receiver takes the newest snapshot, and none that it has no need of', async (t) => {
  const chunkOf = (index: number, term = 3): Chunk => {
    const [chunk] = chunksOf(source(records(6, 20, 60_000), index));
    if (chunk === undefined) throw new Error('no chunk');
    return { ...chunk, message: message('b', index, term) };
  };
  const receiver = new SnapshotReceiver(ignoring);
  t.match(receiver.receive('a', chunkOf(10), 4, 5), { nextOffset: -1 }, 'of an earlier term');
  t.match(receiver.receive('a', chunkOf(10), 3, 10), { nextOffset: -1 }, 'it is here');
  t.match(receiver.receive('a', chunkOf(10), 3, 5), { nextOffset: snapshotChunkBytes });
  t.match(receiver.receive('a', chunkOf(9), 3, 5), { nextOffset: -1 }, 'older');
  t.match(receiver.receive('a', chunkOf(11), 3, 5), { nextOffset: snapshotChunkBytes });
  t.match(
    receiver.receive('c', chunkOf(8, 4), 4, 5),
    { nextOffset: snapshotChunkBytes },
    'of a later leader',
  );
  receiver.committed(8);
  t.match(receiver.receive('c', { ...chunkOf(8, 4), offset: 1 }, 4, 5), { nextOffset: 0 }, 'forgotten');
});

/** 81 chunks. */
const long = Array.from({ length: 40 }, () => new Uint8Array(512 * 1024));

interface Sent {
  readonly to: string;
  readonly index: number;
  readonly chunk: number;
}

function senderFixture(of: readonly Uint8Array[] = records(7, 200, 10_000)) {
  const sent: Sent[] = [];
  const reports: (readonly [string, boolean])[] = [];
  let applied = 10;
  const sender = new SnapshotSender({
    resendTicks: 2,
    capture: () => source(of, applied++),
    send: (to, chunk) => {
      if (chunk.kind !== 'snapshotChunk') return;
      sent.push({ to, index: chunk.message.position.index, chunk: chunk.offset / snapshotChunkBytes });
    },
    report: (to, delivered) => reports.push([to, delivered]),
  });
  const answer = (from: string, index: number, nextOffset: number): void =>
    sender.answered(from, { kind: 'snapshotChunkResponse', position: { index, term: 2 }, nextOffset });
  const lead = { term: 3, members: new Set(['a', 'b', 'c', 'd', 'e', 'f']) };
  const tick = (times: number): void => {
    for (let time = 0; time < times; time += 1) sender.tick(lead);
  };
  return { sender, sent, reports, answer, tick, lead };
}

t.test(
  'one chunk is on its way at a time: old answers, and answers that come twice, send nothing',
  async (t) => {
    const { sender, sent, answer, tick } = senderFixture();
    sender.open(message('b', 10), 0);
    sender.open(message('b', 10), 0);
    t.equal(sent.length, 1, 'it runs already');
    answer('b', 10, snapshotChunkBytes);
    answer('b', 10, snapshotChunkBytes);
    answer('b', 10, 0);
    answer('b', 9, 2 * snapshotChunkBytes);
    answer('c', 10, 2 * snapshotChunkBytes);
    t.same(
      sent.map(({ chunk }) => chunk),
      [0, 1],
    );
    // The last answer was an old one, or it began anew: one way or the other it says where it is.
    tick(2);
    t.equal(sent.at(-1)?.chunk, 0);
    answer('b', 10, 2 * snapshotChunkBytes);
    t.equal(sent.at(-1)?.chunk, 2);
  },
);

t.test('what is delivered, refused, or in vain is reported, once', async (t) => {
  const { sender, sent, reports, answer, tick } = senderFixture([Buffer.from('small')]);
  sender.open(message('b', 10), 0);
  answer('b', 10, 1_000);
  answer('b', 10, 1_000);
  sender.open(message('c', 10), 0);
  answer('c', 11, -1);
  sender.open(message('d', 10), 0);
  tick(100);
  t.same(reports, [
    ['b', true],
    ['c', false],
    ['d', false],
  ]);
  t.ok(sent.filter(({ to }) => to === 'd').length <= 20);
  t.equal(sender.active, false);
});

t.test('a transfer ends with the leadership, the term and the membership', async (t) => {
  for (const [how, lead] of [
    ['no leader', null],
    ['another term', { term: 4, members: new Set(['b']) }],
    ['no member', { term: 3, members: new Set(['c']) }],
  ] as const) {
    const { sender, reports } = senderFixture();
    sender.open(message('b', 10), 0);
    t.equal(sender.lowestIndex, 10);
    sender.tick(lead);
    t.equal(sender.active, false, how);
    t.equal(sender.lowestIndex, null);
    t.same(reports, []);
  }
});

t.test('a snapshot is shared while it is all there and the log still goes on from it', async (t) => {
  const { sender, sent } = senderFixture();
  sender.open(message('b', 10), 5);
  sender.open(message('c', 10), 10);
  t.same(
    sent.map(({ index }) => index),
    [10, 10],
  );
  sender.open(message('d', 10), 11);
  t.equal(sent.at(-1)?.index, 11, 'the log goes on from 11');
});

t.test('snapshots under way, and what is held of them, are bounded', async (t) => {
  const { sender, sent, reports, answer } = senderFixture(long);
  sender.open(message('b', 10), 0);
  for (let chunk = 1; chunk < 70; chunk += 1) answer('b', 10, chunk * snapshotChunkBytes);
  t.equal(sent.at(-1)?.chunk, 69);
  sender.open(message('c', 10), 0);
  t.equal(sent.at(-1)?.index, 11, 'the first has forgotten its start');
  for (const [at, to] of ['d', 'e', 'f'].entries()) sender.open(message(to, 10), 12 + at);
  t.equal(snapshotSourcesMax, 4);
  t.same(reports, [['f', false]], 'four at once');
});

t.test('a receiver that began anew when the start is forgotten gets another snapshot', async (t) => {
  const { sender, sent, reports, answer, tick } = senderFixture(long);
  sender.open(message('b', 10), 0);
  for (let chunk = 1; chunk < 70; chunk += 1) answer('b', 10, chunk * snapshotChunkBytes);
  answer('b', 10, 0);
  tick(2);
  t.same(reports, [['b', false]]);
  sender.open(message('b', 10), 0);
  t.same(sent.at(-1), { to: 'b', index: 11, chunk: 0 });
});

t.test('a receiver that is further than the sequence was made so far is met there, bit by bit', async (t) => {
  const { sender, sent, answer, tick } = senderFixture(long);
  sender.open(message('b', 10), 0);
  answer('b', 10, 40 * snapshotChunkBytes);
  t.equal(sent.length, 1);
  tick(1);
  t.equal(sent.length, 1);
  tick(1);
  t.equal(sent.at(-1)?.chunk, 40);
});
