import t from 'tap';
import { judge, type Watched } from '../../bench/leak/judgement.js';

const endSeconds = 1_800;

/** Looked at every half a minute. */
function watched(
  memoryMiB: (atSeconds: number) => number,
  {
    descriptors = (): number => 20,
    untilSeconds = endSeconds,
  }: { readonly descriptors?: (atSeconds: number) => number; readonly untilSeconds?: number } = {},
): Watched {
  const times = Array.from({ length: untilSeconds / 30 + 1 }, (_, index) => index * 30);
  const points = (value: (atSeconds: number) => number) =>
    times.map((atSeconds) => ({ atSeconds, value: value(atSeconds) }));
  return {
    role: 'serving',
    memoryMiB: points(memoryMiB),
    descriptors: points(descriptors),
    threads: points(() => 11),
  };
}

const judged = (one: Watched) => judge(new Map([[7, one]]), [7], endSeconds);

t.test('what stays as it is has no fault, and a row', async (t) => {
  const { rows, faults } = judged(
    watched((at) => (at < 600 ? 50 + at / 100 : 56), { descriptors: (at) => (at < 600 ? 20 : 30) }),
  );
  t.strictSame(faults, []);
  t.match(rows[1], ['serving', '7', '50.0', '56.0', '0.0', '20', '30', '11', '11']);
});

t.test('what grows is told', async (t) => {
  t.match(judged(watched((at) => 50 + at / 120)).faults, [/^serving 7: memory grew by 10\.0 MiB/]);
  t.match(judged(watched(() => 50, { descriptors: (at) => 20 + at / 200 })).faults, [
    /^serving 7: descriptors went from 23 to 29$/,
  ]);
});

t.test('who is not seen, or not to the end, is not well', async (t) => {
  t.match(judge(new Map(), [], endSeconds).faults, [/^no process was watched/]);
  t.match(judge(new Map(), [7], endSeconds).faults, [/^process 7 is not there/]);
  t.match(judged(watched(() => 50, { untilSeconds: 900 })).faults, [/^serving 7 ended within 900 s/]);
  t.match(judged(watched(() => 0)).faults, [/^serving 7: its memory cannot be read$/]);
});
