import { readFileSync } from 'node:fs';
import t from 'tap';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { mintRequestId } from '../../src/keystate/request-id.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { Command, CommandResult } from '../../src/keystate/types.js';

/**
 * A log as `writtenBy` wrote it, with what came of it there: results, and the records of a snapshot at its end. Never
 * written anew: it is what lies in the field.
 */
interface RecordedLog {
  readonly writtenBy: string;
  /** Hexadecimal. */
  readonly commands: readonly string[];
  readonly results: readonly CommandResult[];
  readonly snapshot: readonly string[];
}

const recorded: RecordedLog = JSON.parse(
  readFileSync(new URL('../../../test/keystate/data/format-1.json', import.meta.url), 'utf8'),
);

const texts = (machine: KeyStateMachine): string[] =>
  [...machine.snapshot()].map((record) => Buffer.from(record).toString('utf8'));

function replayed(): KeyStateMachine {
  const machine = new KeyStateMachine();
  for (const [place, hex] of recorded.commands.entries()) {
    const result = machine.apply(place + 1, Buffer.from(hex, 'hex'));
    t.strictSame(result, recorded.results[place], `index ${place + 1}`);
  }
  return machine;
}

t.test(`a log written by ${recorded.writtenBy} replays to what it was`, async (t) => {
  const machine = replayed();
  t.strictSame(texts(machine), recorded.snapshot, 'down to the snapshot, which that release can still read');
  t.equal(machine.state.activeFormat(), 1);
  t.equal(machine.membership(), null);
  const restored = new KeyStateMachine();
  restored.restore(
    recorded.commands.length,
    recorded.snapshot.map((record) => Buffer.from(record, 'utf8')),
  );
  t.equal(restored.stateHash(), machine.stateHash(), 'its snapshot is read, with the same hash');
  t.strictSame(texts(restored), recorded.snapshot);
});

const at = Date.UTC(2026, 0, 1);
const body = (random: number, atMs = at) => ({
  requestId: mintRequestId(atMs, new Uint8Array(10).fill(random)),
  atMs,
  by: 'uid=0',
});

t.test('after it, an upgrade turns on what is new, from the next index on', async (t) => {
  const machine = replayed();
  let index = recorded.commands.length;
  const apply = (command: Command): CommandResult => {
    index += 1;
    return machine.apply(index, encodeCommand(command));
  };
  const old = { ...body(1), requestId: '00'.repeat(16) };
  const disable: Command = { ...old, type: 'keystore.disable', name: 'prod' };
  t.strictSame(apply(disable), { ok: true, revision: index });
  t.strictSame(apply(disable), { ok: true, revision: index }, 'an id repeats, as it always could');
  const register: Command = {
    ...body(2),
    type: 'member.register',
    memberId: 'm-1',
    name: 'node-a',
    address: 'a.example:7946',
  };
  t.match(apply(register), {
    ok: false,
    error: {
      code: 'conflict',
      message: /active format is 1 and member.register needs 2: finish the upgrade/,
    },
  });
  t.equal(machine.membership(), null);
  const before = machine.stateHash();
  const upgrade: Command = { ...body(3), type: 'cluster.upgrade', format: 2 };
  t.strictSame(apply(upgrade), { ok: true, revision: index });
  t.equal(machine.state.activeFormat(), 2);
  t.not(machine.stateHash(), before, 'the active format is in the hash');
  t.strictSame(apply(upgrade), { ok: true, revision: index - 1, repeated: true });
  t.match(apply({ ...upgrade, ...body(4) }), {
    ok: false,
    error: { code: 'conflict', message: /2 already/ },
  });
  t.match(apply(disable), { ok: false, error: { code: 'invalid', message: /request id is not one/ } });
  t.match(apply({ ...register, ...body(5) }), { ok: true });
  t.strictSame(machine.membership(), { voters: ['m-1'], learners: [] });
  const restored = new KeyStateMachine();
  restored.restore(index, [...machine.snapshot()]);
  t.equal(restored.stateHash(), machine.stateHash());
});
