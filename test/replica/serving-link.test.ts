import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { systemTimers } from '../../src/base/timers.js';
import { encodeIndexFrame, encodeJsonFrame, FrameDecoder } from '../../src/ops/frames.js';
import { type Frame, FrameType } from '../../src/ops/state-link.js';
import { ServingLink, snapshotPieceBytes } from '../../src/replica/serving-link.js';
import { testNonce } from './fake-serving-process.js';

/** Takes whatever is written to it at once: the fastest reader there can be. */
class GreedySocket extends Duplex {
  readonly frames: Frame[] = [];
  readonly #decoder = new FrameDecoder();

  override _write(chunk: Buffer, _encoding: string, taken: () => void): void {
    const decoded = this.#decoder.push(chunk);
    if (decoded.ok) this.frames.push(...decoded.value);
    taken();
  }

  override _read(): void {}
}

t.test('a snapshot goes out piece by piece, the event loop turns between, and entries wait', async (t) => {
  const socket = new GreedySocket();
  const recordBytes = 1_000;
  const records = 500;
  let made = 0;
  function* snapshot(): Generator<Uint8Array> {
    for (; made < records; made += 1) yield new Uint8Array(recordBytes);
  }
  const link = new ServingLink(
    socket as unknown as Socket,
    {
      refusal: () => null,
      onHello: (greeted) => greeted.startSnapshot(7, snapshot()),
      onApplied: () => {},
      onMetrics: () => {},
      onIvWants: () => {},
      onHsmReply: () => {},
      onClosed: () => {},
    },
    systemTimers,
  );
  t.teardown(() => socket.destroy());
  const hello = { linkVersion: 1, pid: 1, slot: 1, supervisorNonce: testNonce, processId: 'p' };
  socket.push(
    encodeJsonFrame(FrameType.hello, { ...hello, startedAtMs: 1, linkedBefore: false, version: '1' }),
  );
  const perTurn: number[] = [];
  for (let before = 0; made < records; before = made) {
    await turn();
    perTurn.push(made - before);
    if (perTurn.length === 2) link.enqueueEntry(8, encodeIndexFrame(FrameType.entry, 8));
  }
  t.ok(perTurn.length >= (records * recordBytes) / (2 * snapshotPieceBytes), `${perTurn.length} turns`);
  // The immediate of a test and that of the link may fall into one turn.
  t.ok(Math.max(...perTurn) <= 2 * Math.ceil(snapshotPieceBytes / recordBytes), `${Math.max(...perTurn)}`);
  while (socket.frames.at(-1)?.type !== FrameType.entry) await turn();
  t.same(
    socket.frames.map(({ type }) => type),
    [
      FrameType.snapshotBegin,
      ...Array.from({ length: records }, () => FrameType.snapshotRecord),
      FrameType.snapshotEnd,
      FrameType.entry,
    ],
  );
});
