import t from 'tap';
import { lookTimeoutMs, roomBytesMin, roomLookMs, roomToWrite } from '../../src/replica/room-to-write.js';
import { systemFiles } from '../../src/replication/file-operations.js';
import { VirtualTime } from '../support/virtual-time.js';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A disk that gives these answers, one after the other, the last one for ever. */
function begin(answers: readonly (() => Promise<number>)[]) {
  const time = new VirtualTime();
  const seen = { asked: 0, told: 0, over: false };
  const freeBytes = (): Promise<number> => {
    const answer = answers[Math.min(seen.asked, answers.length - 1)];
    seen.asked += 1;
    return answer?.() ?? Promise.reject(new Error('no answer'));
  };
  const told = (): void => {
    seen.told += 1;
  };
  const directory = { path: '/data', files: { ...systemFiles, freeBytes } };
  void roomToWrite(directory, time, told).then(() => {
    seen.over = true;
  });
  return { time, seen };
}

const has =
  (bytes: number): (() => Promise<number>) =>
  async () =>
    bytes;

t.test('with room, or with a disk that does not say, nobody waits', async (t) => {
  for (const answer of [has(roomBytesMin), () => Promise.reject(new Error('EIO'))]) {
    const { seen } = begin([answer]);
    await turn();
    t.match(seen, { asked: 1, told: 0, over: true });
  }
});

t.test('a disk that hangs is not waited for', async (t) => {
  const { time, seen } = begin([() => new Promise(() => {})]);
  time.advance(lookTimeoutMs - 1);
  await turn();
  t.match(seen, { told: 0, over: false });
  time.advance(1);
  await turn();
  t.match(seen, { told: 0, over: true });
});

t.test('on a full disk it waits until there is room, and says so once', async (t) => {
  const { time, seen } = begin([has(0), has(roomBytesMin - 1), has(roomBytesMin)]);
  await turn();
  t.match(seen, { asked: 1, told: 1, over: false });
  time.advance(roomLookMs - 1);
  await turn();
  t.match(seen, { asked: 1, told: 1, over: false });
  time.advance(1);
  await turn();
  t.match(seen, { asked: 2, told: 1, over: false });
  time.advance(roomLookMs);
  await turn();
  t.match(seen, { asked: 3, told: 1, over: true });
});
