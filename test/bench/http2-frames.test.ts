import t from 'tap';
import {
  content,
  FrameReader,
  frame,
  frameType,
  onStream,
  readSettings,
  requestFrames,
  settingsFrame,
  statusOf,
} from '../../bench/driver/http2-frames.js';

t.test('frames are read in whatever pieces they arrive', async (t) => {
  const bytes = Buffer.concat([
    frame(frameType.headers, 4, 1, Buffer.from('head')),
    frame(frameType.data, 1, 0x7fff_ffff, Buffer.from('body')),
    frame(frameType.settings, 1, 0, Buffer.alloc(0)),
  ]);
  for (let at = 0; at <= bytes.length; at++) {
    const reader = new FrameReader();
    const frames = [bytes.subarray(0, at), bytes.subarray(at)].flatMap((piece) => reader.push(piece));
    const shown = frames.map(({ type, flags, streamId, payload }) => [
      type,
      flags,
      streamId,
      String(payload),
    ]);
    const all = [
      [1, 4, 1, 'head'],
      [0, 1, 0x7fff_ffff, 'body'],
      [4, 1, 0, ''],
    ];
    if (JSON.stringify(shown) !== JSON.stringify(all)) t.fail(`split at ${at}: ${JSON.stringify(shown)}`);
  }
});

t.test('a request is one HEADERS frame and as many DATA frames as its body needs', async (t) => {
  for (const bytes of [0, 1, 16_384, 16_385, 40_000]) {
    const wire = onStream(requestFrames([[':method', 'POST']], Buffer.alloc(bytes, 'x')), 7);
    const [head, ...data] = new FrameReader().push(wire);
    t.equal(head?.streamId, 7);
    t.strictSame(
      head?.payload,
      Buffer.concat([Buffer.of(0, 7), Buffer.from(':method'), Buffer.of(4), Buffer.from('POST')]),
    );
    t.equal(
      data.reduce((sum, { payload }) => sum + payload.length, 0),
      bytes,
    );
    t.ok(data.every(({ streamId, payload }) => streamId === 7 && payload.length <= 16_384));
    t.strictSame(
      data.map(({ flags }) => flags & 1),
      [...Array(data.length - 1).fill(0), 1],
      'the last ends it',
    );
  }
});

t.test('a long field has its length in several octets (RFC 7541 §5.1)', async (t) => {
  const wire = requestFrames([['a', 'x'.repeat(1_337)]], Buffer.alloc(0));
  const [head] = new FrameReader().push(wire);
  // 1337 − 127 = 1210 = 9 × 128 + 58.
  t.strictSame(head?.payload.subarray(0, 6), Buffer.of(0, 1, 0x61, 0x7f, 58 + 128, 9));
});

t.test('the status is read in every form that a server can give it', async (t) => {
  for (const [octets, status] of [
    [[0x88], 200],
    [[0x8c, 0x00], 400],
    [[0x20, 0x8e], 500],
    // Literals under the name of index 8: with indexing, without, never; plain and Huffman coded.
    [[0x48, 3, 0x35, 0x30, 0x33], 503],
    [[0x08, 3, 0x34, 0x32, 0x39], 429],
    [[0x18, 3, 0x34, 0x30, 0x31], 401],
    // RFC 7541 C.6.1: "302" is 6402.
    [[0x48, 0x82, 0x64, 0x02], 302],
    // RFC 7541 C.6.2: "307" is 640eff.
    [[0x48, 0x83, 0x64, 0x0e, 0xff], 307],
    [[0x20, 0x3f, 0xe1, 0x1f, 0x88], 200],
    [[0x00], 0],
  ] as const) {
    t.equal(statusOf(Buffer.from(octets)), status, Buffer.from(octets).toString('hex'));
  }
});

t.test('padding and priority are no content', async (t) => {
  const payload = Buffer.of(2, 0, 0, 0, 0, 9, 0x88, 0, 0);
  t.strictSame(content({ type: frameType.headers, flags: 0x28, streamId: 1, payload }), Buffer.of(0x88));
});

t.test('settings are written as they are read', async (t) => {
  const [read] = new FrameReader().push(
    settingsFrame([
      [1, 0],
      [4, 1_048_576],
    ]),
  );
  t.strictSame(
    [...readSettings(read?.payload ?? Buffer.alloc(0))],
    [
      [1, 0],
      [4, 1_048_576],
    ],
  );
});
