import t from 'tap';
import { InvariantViolation } from '../../src/base/guards.js';
import {
  encodeFrame,
  encodeIndexFrame,
  encodeJsonFrame,
  FrameDecoder,
  readIndexPayload,
  readJsonPayload,
} from '../../src/ops/frames.js';
import { type Frame, FrameType, frameBytesMax } from '../../src/ops/state-link.js';

const stream = Buffer.concat([
  encodeJsonFrame(FrameType.hello, { pid: 7, note: 'äöü' }),
  encodeIndexFrame(FrameType.snapshotBegin, 12),
  encodeFrame(FrameType.snapshotRecord),
  encodeFrame(FrameType.snapshotRecord, Buffer.from('re'), Buffer.from('cord')),
  encodeIndexFrame(FrameType.snapshotEnd, 12),
  encodeIndexFrame(FrameType.entry, Number.MAX_SAFE_INTEGER, Buffer.from([0, 1, 2])),
]);

const describe = (frames: readonly Frame[]): string[] =>
  frames.map(({ type, payload }) => `${type}:${payload.toString('hex')}`);

function decodeAll(chunks: readonly Uint8Array[]): string[] {
  const decoder = new FrameDecoder();
  return chunks.flatMap((chunk) => {
    const frames = decoder.push(chunk);
    if (!frames.ok) throw new Error(frames.error.message);
    return describe(frames.value);
  });
}

t.test('the wire form is uint32be length, uint8 type, payload', async (t) => {
  t.equal(encodeFrame(FrameType.snapshotRecord, Buffer.from('ab')).toString('hex'), '00000003036162');
  t.equal(encodeIndexFrame(FrameType.applied, 258).toString('hex'), '00000009060000000000000102');
  t.equal(
    encodeIndexFrame(FrameType.entry, 1, Buffer.from('c')).toString('hex'),
    '0000000a05000000000000000163',
  );
});

t.test('frames come out the same wherever the stream is split', async (t) => {
  const whole = decodeAll([stream]);
  t.equal(whole.length, 6);
  for (let first = 0; first <= stream.length; first += 1) {
    for (let second = first; second <= stream.length; second += 1) {
      const parts = [stream.subarray(0, first), stream.subarray(first, second), stream.subarray(second)];
      const frames = decodeAll(parts);
      if (frames.join() !== whole.join()) t.same(frames, whole, `split at ${first} and ${second}`);
    }
  }
  t.same(decodeAll([...stream].map((byte) => Uint8Array.of(byte))), whole, 'byte by byte');
});

t.test('payloads do not share memory with the chunks they came in', async (t) => {
  const chunk = Buffer.from(encodeFrame(FrameType.snapshotRecord, Buffer.from('kept')));
  const frames = new FrameDecoder().push(chunk);
  chunk.fill(0);
  t.ok(frames.ok);
  t.equal(frames.ok ? frames.value[0]?.payload.toString() : '', 'kept');
});

t.test('a length or type that no peer sends is an error, and stays one', async (t) => {
  const refused = (hex: string): string => {
    const decoder = new FrameDecoder();
    const first = decoder.push(Buffer.from(hex, 'hex'));
    const second = decoder.push(encodeFrame(FrameType.snapshotRecord));
    t.notOk(first.ok);
    t.notOk(second.ok, 'nothing comes after an error');
    return first.ok ? '' : first.error.message;
  };
  t.match(refused('0000000001'), /frame length 0 is not within/);
  const tooLong = Buffer.alloc(5, 1);
  tooLong.writeUInt32BE(frameBytesMax + 1);
  t.match(refused(tooLong.toString('hex')), /frame length 4194305 is not within 1–4194304/);
  t.match(refused('0000000100'), /unknown frame type 0/);
  t.match(refused('00000001c8'), /unknown frame type 200/);
});

t.test('the longest frame passes, a longer one cannot be made', async (t) => {
  const longest = encodeFrame(FrameType.snapshotRecord, new Uint8Array(frameBytesMax - 1));
  const frames = new FrameDecoder().push(longest);
  t.equal(frames.ok ? frames.value[0]?.payload.byteLength : 0, frameBytesMax - 1);
  t.throws(() => encodeFrame(FrameType.snapshotRecord, new Uint8Array(frameBytesMax)), InvariantViolation);
});

t.test('typed payloads are read strictly', async (t) => {
  t.same(readJsonPayload(Buffer.from('{"a":1}')), { a: 1 });
  for (const text of ['', '[]', 'null', '1', '{"a":1} x', '{'])
    t.equal(readJsonPayload(Buffer.from(text)), null, text);
  t.equal(readIndexPayload(Buffer.alloc(7)), null);
  t.equal(readIndexPayload(Buffer.alloc(8, 0xff)), null, 'beyond what a number holds');
  const entry = readIndexPayload(Buffer.from('000000000000000578', 'hex'));
  t.equal(entry?.index, 5);
  t.equal(entry?.rest.toString(), 'x');
});
