import t from 'tap';
import { KeptRecordCopies, KeptRecords } from '../../src/keystate/kept-records.js';
import { KeyState } from '../../src/keystate/key-state.js';
import { ObjectHash } from '../../src/keystate/object-hash.js';
import { RequestTable, requestLimits } from '../../src/keystate/request-table.js';
import { SnapshotReader, snapshotRecords } from '../../src/keystate/snapshot-codec.js';
import { Tables } from '../../src/keystate/tables.js';
import { randomCommand } from '../support/commands.js';
import { RandomHistory } from '../support/random-history.js';
import { SeededRandom } from '../support/seeded-random.js';

const texts = (state: KeyState): string[] =>
  [...snapshotRecords(state)].map((record) => Buffer.from(record).toString());

function restored(state: KeyState): KeyState {
  const reader = new SnapshotReader({ keepRecords: true });
  for (const record of snapshotRecords(state)) reader.push(record);
  const finished = reader.finish();
  if (!finished.ok) throw new Error(finished.error);
  return finished.value;
}

const histories = {
  'of format 1': (random: SeededRandom) => () => randomCommand(random),
  'of format 2': (random: SeededRandom) => {
    const history = new RandomHistory(random);
    return () => history.next();
  },
};

for (const [name, historyOf] of Object.entries(histories)) {
  t.test(`a snapshot of kept records is the one that is made anew, in a history ${name}`, async (t) => {
    const random = new SeededRandom(61);
    const next = historyOf(new SeededRandom(62));
    const made = new KeyState();
    let kept = new KeyState(new Tables({ keepRecords: true }));
    const seen = new Set<string>();
    for (let index = 1; index <= 2_000; index += 1) {
      const command = next();
      made.apply(index, command);
      kept.apply(index, command);
      if (random.integer(40) > 0) continue;
      const expected = texts(made);
      t.strictSame(texts(kept), expected, `at ${index}`);
      for (const text of expected) seen.add(text);
      if (random.integer(4) === 0) kept = restored(kept);
    }
    const keys = [...seen].filter((text) => text.startsWith('{"record":"key",'));
    t.ok(keys.some((text) => text.includes('größer')));
    t.ok(keys.some((text) => text.includes('"currentVersion":1,"status":"DISABLED"')));
    t.equal(
      [...seen].some((text) => text.startsWith('{"record":"request",')),
      name === 'of format 2',
    );
  });
}

t.test('records are kept byte by byte, whatever becomes of what they were put from', async (t) => {
  const random = new SeededRandom(63);
  const kept = new KeptRecords();
  const lengths = [300, 70_000, 1, ...Array.from({ length: 500 }, () => 1 + random.integer(1_000)), 65_536];
  const expected = lengths.map((length, place) => {
    const bytes = Buffer.concat([Buffer.of(0), random.bytes(length)]);
    const view = bytes.subarray(1);
    kept.put(String(place), view);
    const copy = Buffer.from(view);
    bytes.fill(0);
    return copy;
  });
  const copies = new KeptRecordCopies();
  const copied = [...kept.all()].map((record) => copies.copy(record));
  t.ok(copied.every((bytes, place) => bytes.equals(expected[place] ?? Buffer.of())));
  t.equal(copied.length, lengths.length);
});

t.test('what is forgotten of requests is not kept', async (t) => {
  const kept = new KeptRecords();
  const table = new RequestTable(new ObjectHash(), kept);
  const idOf = (count: number): string => `0199c82cc${String(count).padStart(3, '0')}-00010203040506070809`;
  const requests = 3 * requestLimits.prunesPerCommandMax;
  for (let count = 0; count < requests; count += 1) {
    table.put({ requestId: idOf(count), index: count + 1, change: '', revision: 1, refusal: null });
  }
  t.equal([...kept.all()].length, requests);
  table.prune(idOf(requests));
  t.equal([...kept.all()].length, requests - requestLimits.prunesPerCommandMax);
  t.equal(kept.get(idOf(0)), undefined);
  t.strictSame([...(table.keptRecords() ?? [])], [...kept.all()]);
});
