import t from 'tap';
import { decodeCommand, encodeCommand } from '../../src/keystate/command-codec.js';
import { KeyState } from '../../src/keystate/key-state.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import { RandomHistory } from '../support/random-history.js';
import { SeededRandom } from '../support/seeded-random.js';

const texts = (machine: KeyStateMachine): string[] =>
  [...machine.snapshot()].map((record) => Buffer.from(record).toString());

for (const seed of [52, 53, 54, 56]) {
  t.test(`seed ${seed}: one hash for one state, by replay, by snapshot and by both in turns`, async (t) => {
    const random = new SeededRandom(seed);
    const history = new RandomHistory(new SeededRandom(seed + 1_000));
    const first = new KeyStateMachine();
    let second = new KeyStateMachine();
    const done = new Map<string, number>();
    const codes = new Set<string>();
    let repeated = 0;
    for (let index = 1; index <= 2_000; index += 1) {
      if (random.integer(10) === 0) {
        first.skip(index);
        second.skip(index);
        continue;
      }
      const command = history.next();
      const bytes = encodeCommand(command);
      const before = first.stateHash();
      const result = first.apply(index, bytes);
      const other = second.apply(index, bytes);
      if (JSON.stringify(other) !== JSON.stringify(result)) t.fail(`results differ at ${index}`);
      if (result.repeated === true) {
        repeated += 1;
        if (first.stateHash() !== before) t.fail(`a repeat changed something at ${index}`);
      } else if (result.ok) done.set(command.type, (done.get(command.type) ?? 0) + 1);
      if (!result.ok) codes.add(result.error.code);
      if (random.integer(40) === 0) {
        const records = [...second.snapshot()];
        second = new KeyStateMachine();
        second.restore(index, records);
      }
      if (second.stateHash() !== first.stateHash()) t.fail(`hashes differ at ${index}, ${command.type}`);
      const membership = first.membership();
      if (membership?.voters.length === 0) t.fail(`no voter at ${index}`);
    }
    t.strictSame(texts(second), texts(first));
    t.ok(repeated > 20, `${repeated} repeats`);
    for (const code of ['not-found', 'already-exists', 'conflict', 'invalid', 'expired']) {
      t.ok(codes.has(code), code);
    }
    for (const type of [
      'cluster.recover',
      'key.create',
      'member.add',
      'member.join',
      'keystore.set',
      'key.set',
      'iv.reserve',
    ]) {
      t.ok((done.get(type) ?? 0) > 0, `${type} was done ${done.get(type) ?? 0} times`);
    }
  });
}

t.test('a state that differs in one object has another hash', async (t) => {
  const history = new RandomHistory(new SeededRandom(9));
  const state = new KeyState();
  const hashes = new Set<string>();
  let changes = 0;
  for (let index = 1; index <= 300; index += 1) {
    const command = history.next();
    const before = state.hash();
    const result = state.apply(index, command);
    // Since format 2 every command that is executed is remembered, if nothing else; but for reservations of IVs.
    const isJudged = !result.ok && ['expired', 'invalid', 'conflict'].includes(result.error.code);
    const isCount = command.type === 'iv.reserve';
    if (result.repeated === true || ((isJudged || isCount) && state.hash() === before)) continue;
    changes += 1;
    hashes.add(state.hash());
  }
  t.equal(hashes.size, changes);
  t.ok(changes > 200);
});

t.test('decoded commands of any kind are applied without an exception, in both formats', async (t) => {
  for (const founded of [true, false]) {
    const history = new RandomHistory(new SeededRandom(founded ? 3 : 4));
    const state = new KeyState();
    for (let index = 1; index <= 1_000; index += 1) {
      const command = history.next();
      // Without the founding command the cluster stays in format 1.
      if (!founded && (command.type === 'cluster.init' || command.type === 'cluster.upgrade')) {
        state.skip(index);
        continue;
      }
      const decoded = decodeCommand(encodeCommand(command));
      if (!decoded.ok) t.fail(decoded.error);
      else state.apply(index, decoded.value);
    }
    t.equal(state.activeFormat(), founded ? 4 : 1);
    t.equal(state.appliedIndex, 1_000);
  }
});
