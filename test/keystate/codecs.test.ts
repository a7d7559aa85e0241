import t from 'tap';
import { commandClasses } from '../../src/keystate/command-class.js';
import { decodeCommand, encodeCommand } from '../../src/keystate/command-codec.js';
import { formatOf } from '../../src/keystate/command-format.js';
import { objectField } from '../../src/keystate/json-fields.js';
import { SnapshotReader } from '../../src/keystate/snapshot-codec.js';
import { decodeRecord, encodeRecord } from '../../src/keystate/snapshot-records.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import { type Command, limits } from '../../src/keystate/types.js';
import { randomCommand } from '../support/commands.js';
import { RandomHistory } from '../support/random-history.js';
import { SeededRandom } from '../support/seeded-random.js';

const enable: Command = {
  type: 'key.enable',
  requestId: 'r-1',
  atMs: 1_700_000_000_000,
  by: 'uid=0',
  keyStore: 'prod',
  externalKeyId: 'alpha',
  revision: 7,
};

const bytesOf = (json: string, format = 1): Buffer =>
  Buffer.concat([Buffer.from([format]), Buffer.from(json, 'utf8')]);

const canonical =
  '{"type":"key.enable","requestId":"r-1","atMs":1700000000000,"by":"uid=0","keyStore":"prod","externalKeyId":"alpha","revision":7}';

const founding =
  '{"type":"cluster.init","requestId":"r","atMs":1,"by":"","clusterId":"c","nodeName":"n","memberId":"m","address":"a:1","format":2}';

const isolation =
  '{"type":"keystore.set","requestId":"r","atMs":1,"by":"","name":"n","onIsolation":{"rule":"stop","boundMs":6000},"revision":1}';

t.test('a command is its format and canonical JSON, whatever the order of its fields', async (t) => {
  t.strictSame(Buffer.from(encodeCommand(enable)), bytesOf(canonical));
  const { type, ...rest } = enable;
  t.strictSame(encodeCommand({ ...rest, type } as Command), encodeCommand(enable));
  t.strictSame(decodeCommand(bytesOf(canonical)), { ok: true, value: enable });
});

t.test('every kind of command comes back as it was, and encodes to the same bytes', async (t) => {
  const random = new SeededRandom(11);
  const history = new RandomHistory(random);
  const types = new Set<string>();
  for (let count = 0; count < 3_000; count += 1) {
    const command = count < 1_000 ? randomCommand(random) : history.next();
    types.add(command.type);
    const bytes = encodeCommand(command);
    const decoded = decodeCommand(bytes);
    if (!decoded.ok) t.fail(decoded.error);
    else if (!Buffer.from(encodeCommand(decoded.value)).equals(bytes)) t.fail(`${command.type} changed`);
    else if (count < 100 || count > 2_900) t.strictSame(decoded.value, command);
    if (command.type !== 'cluster.init') t.equal(bytes[0], formatOf(command));
  }
  t.strictSame([...types].sort(), Object.keys(commandClasses).sort());
});

const strange: readonly { readonly name: string; readonly bytes: Buffer; readonly error: RegExp }[] = [
  { name: 'nothing', bytes: Buffer.alloc(0), error: /format is missing/ },
  {
    name: 'another format',
    bytes: bytesOf(canonical, 5),
    error: /format is 5; this version of xksd reads formats 1 to 4/,
  },
  { name: 'format 0', bytes: bytesOf(canonical, 0), error: /format is 0; / },
  {
    name: 'a command in a later format than its own',
    bytes: bytesOf(canonical, 2),
    error: /format is 2, and key.enable is of format 1/,
  },
  {
    name: 'a command in a format that did not have it',
    bytes: bytesOf('{"type":"member.promote","requestId":"r","atMs":1,"by":"","memberId":"m"}'),
    error: /format is 1, and member.promote is of format 2/,
  },
  {
    name: 'a founder in format 1',
    bytes: bytesOf(founding, 1),
    error: /format is 1, and cluster.init is of format 2/,
  },
  {
    name: 'a cluster of a format to come',
    bytes: bytesOf(founding.replace('"format":2', '"format":5'), 2),
    error: /^format is 5; this version of xksd knows formats up to 4/,
  },
  {
    name: 'an upgrade to a format to come',
    bytes: bytesOf('{"type":"cluster.upgrade","requestId":"r","atMs":1,"by":"","format":5}', 2),
    error: /^format is 5; this version of xksd knows formats up to 4/,
  },
  {
    name: 'half a founder',
    bytes: bytesOf(founding.replace('"address":"a:1",', ''), 2),
    error: /^address is missing/,
  },
  {
    name: 'a bound without the rule that has one',
    bytes: bytesOf(isolation.replace('"stop"', '"serve"'), 2),
    error: /^onIsolation.boundMs is not known/,
  },
  {
    name: 'an unknown rule',
    bytes: bytesOf(isolation.replace('"stop"', '"go"'), 2),
    error: /^onIsolation.rule is not one of serve/,
  },
  { name: 'no JSON', bytes: bytesOf('{'), error: /not JSON/ },
  { name: 'no object', bytes: bytesOf('[]'), error: /type is missing/ },
  { name: 'no type', bytes: bytesOf('{}'), error: /type is missing/ },
  { name: 'an unknown type', bytes: bytesOf('{"type":"key.shred"}'), error: /"key.shred" is not known/ },
  { name: 'a type of Object', bytes: bytesOf('{"type":"toString"}'), error: /"toString" is not known/ },
  {
    name: 'a missing field',
    bytes: bytesOf(canonical.replace(',"revision":7', '')),
    error: /^revision is missing/,
  },
  { name: 'a further field', bytes: bytesOf(canonical.replace('7}', '7,"x":1}')), error: /^x is not known/ },
  { name: 'a field twice', bytes: bytesOf(canonical.replace('7}', '7,"revision":7}')), error: /canonical/ },
  {
    name: '__proto__',
    bytes: bytesOf(canonical.replace('7}', '7,"__proto__":1}')),
    error: /__proto__ is not known/,
  },
  { name: 'white space', bytes: bytesOf(`${canonical} `), error: /canonical/ },
  { name: 'an escape', bytes: bytesOf(canonical.replace('alpha', '\\u0061lpha')), error: /canonical/ },
  {
    name: 'another order',
    bytes: bytesOf(canonical.replace('"by":"uid=0",', '').replace('7}', '7,"by":"uid=0"}')),
    error: /canonical/,
  },
  {
    name: 'a number as text',
    bytes: bytesOf(canonical.replace('7}', '"7"}')),
    error: /^revision is not a whole number/,
  },
  {
    name: 'a fraction',
    bytes: bytesOf(canonical.replace('7}', '7.5}')),
    error: /^revision is not a whole number/,
  },
  {
    name: 'a number below 0',
    bytes: bytesOf(canonical.replace('7}', '-7}')),
    error: /^revision is not a whole number/,
  },
  {
    name: 'text of 5,000',
    bytes: bytesOf(canonical.replace('alpha', 'a'.repeat(5_000))),
    error: /externalKeyId is longer than 4096/,
  },
  {
    name: 'no UTF-8',
    bytes: Buffer.from(bytesOf(canonical.replace('alpha', '\u00ff')).toString('utf8'), 'latin1'),
    error: /canonical/,
  },
  {
    name: '64 KiB and a byte',
    bytes: Buffer.alloc(limits.commandBytesMax + 1, 1),
    error: /longer than 65536 bytes/,
  },
];

for (const { name, bytes, error } of strange) {
  t.test(`no command: ${name}`, async (t) => {
    t.match(decodeCommand(bytes), { ok: false, error });
  });
}

t.test('nothing is encoded that could not be decoded', async (t) => {
  t.throws(
    () => encodeCommand({ ...enable, externalKeyId: 'a'.repeat(5_000) } as Command),
    /longer than 4096/,
  );
  t.throws(() => encodeCommand({ ...enable, revision: -1 } as Command), /whole number/);
  t.throws(() => encodeCommand({ ...enable, atMs: 1.5 } as Command), /whole number/);
  const lone = { ...enable, externalKeyId: '\ud800' } as Command;
  t.strictSame(decodeCommand(encodeCommand(lone)), { ok: true, value: lone });
});

t.test('the founding command and the first one of its type both come back', async (t) => {
  for (const [json, format] of [
    [founding, 2],
    [founding.replace(',"memberId":"m","address":"a:1","format":2', ''), 1],
    [isolation, 2],
    [isolation.replace('{"rule":"stop","boundMs":6000}', '{"rule":"serve"}'), 2],
  ] as const) {
    const decoded = decodeCommand(bytesOf(json, format));
    if (decoded.ok) t.strictSame(Buffer.from(encodeCommand(decoded.value)), bytesOf(json, format));
    else t.fail(decoded.error);
  }
});

t.test('a flipped byte in a command is refused or gives another command, and never throws', async (t) => {
  const random = new SeededRandom(5);
  for (let count = 0; count < 40; count += 1) {
    const bytes = Buffer.from(encodeCommand(randomCommand(random)));
    for (let offset = 0; offset < bytes.byteLength; offset += 1) {
      const copy = Buffer.from(bytes);
      copy.writeUInt8(copy.readUInt8(offset) ^ (1 + random.integer(255)), offset);
      const decoded = decodeCommand(copy);
      if (decoded.ok && !Buffer.from(encodeCommand(decoded.value)).equals(copy)) t.fail(`offset ${offset}`);
    }
  }
});

t.test('bytes that are no UTF-8 are not taken for the text that they decode to', async (t) => {
  const described = (name: string): string =>
    canonical.replace('key.enable', 'key.disable').replace('alpha', name).replace(',"revision":7', '');
  t.ok(decodeCommand(bytesOf(described('\u{1f600}'))).ok);
  t.ok(decodeCommand(bytesOf(described('\ufffd'))).ok);
  // Three bytes of a character of four: as a text the same as above, and of the same length.
  const cut = bytesOf(described('\u{1f600}'));
  const at = cut.indexOf(0xf0);
  const bytes = Buffer.concat([cut.subarray(0, at + 3), cut.subarray(at + 4)]);
  t.match(decodeCommand(bytes), { ok: false, error: 'it is not in canonical form' });
});

function machineAfter(commands: readonly Uint8Array[]): KeyStateMachine {
  const machine = new KeyStateMachine();
  for (const [place, command] of commands.entries()) machine.apply(place + 1, command);
  return machine;
}

const randomCommands = (seed: number, count: number): Uint8Array[] => {
  const random = new SeededRandom(seed);
  return Array.from({ length: count }, () => encodeCommand(randomCommand(random)));
};

const read = (records: Iterable<Uint8Array>) => {
  const reader = new SnapshotReader();
  for (const record of records) reader.push(record);
  return reader.finish();
};

t.test('a snapshot is taken as of the call, whatever is applied while it is written', async (t) => {
  const commands = randomCommands(21, 200);
  const machine = machineAfter(commands.slice(0, 100));
  const expected = [...machine.snapshot()].map((record) => Buffer.from(record).toString());
  const records = machine.snapshot();
  for (const [place, command] of commands.slice(100).entries()) machine.apply(101 + place, command);
  t.strictSame(
    [...records].map((record) => Buffer.from(record).toString()),
    expected,
  );
});

t.test(
  'a snapshot taken in leaves the state alone until it is whole, whatever is applied meanwhile',
  async (t) => {
    const commands = randomCommands(22, 300);
    const records = [...machineAfter(commands).snapshot()];
    const machine = machineAfter(commands.slice(0, 50));
    const alone = machineAfter(commands.slice(0, 50));
    const restoration = machine.beginRestore();
    for (const [place, record] of records.entries()) {
      restoration.take(record);
      if (place % 3 > 0 || alone.state.appliedIndex === 200) continue;
      const index = alone.state.appliedIndex + 1;
      const command = commands[index - 1] ?? new Uint8Array(0);
      t.same(machine.apply(index, command), alone.apply(index, command));
      t.equal(machine.stateHash(), alone.stateHash());
    }
    t.equal(machine.state.appliedIndex, alone.state.appliedIndex);
    t.throws(() => restoration.finish(299), /as of index 300, not 299/);
    t.equal(machine.stateHash(), alone.stateHash(), 'not even when it turns out to be none');
    const again = machine.beginRestore();
    for (const record of records) again.take(record);
    again.finish(300);
    t.strictSame(
      [...machine.snapshot()].map((record) => Buffer.from(record).toString()),
      records.map((record) => Buffer.from(record).toString()),
    );
  },
);

t.test(
  'a snapshot that lacks, repeats or exchanges a record, or has a flipped byte, is refused',
  async (t) => {
    const records = [...machineAfter(randomCommands(31, 600)).snapshot()];
    t.ok(records.length > 12, `${records.length} records`);
    t.ok(read(records).ok);
    for (const [place, record] of records.entries()) {
      t.notOk(read(records.toSpliced(place, 1)).ok, `without record ${place}`);
      t.notOk(read(records.toSpliced(place, 0, record)).ok, `record ${place} twice`);
      t.notOk(read(records.slice(0, place)).ok, `cut before record ${place}`);
      const next = records[place + 1];
      if (next !== undefined)
        t.notOk(read(records.toSpliced(place, 2, next, record)).ok, `exchanged at ${place}`);
      for (let offset = 0; offset < record.byteLength; offset += 1) {
        const copy = Buffer.from(record);
        copy.writeUInt8(copy.readUInt8(offset) ^ 1, offset);
        if (read(records.with(place, copy)).ok) t.fail(`record ${place}, byte ${offset}`);
      }
    }
    t.notOk(read([]).ok);
  },
);

t.test('a snapshot of another format or index is refused', async (t) => {
  const machine = machineAfter(randomCommands(23, 20));
  const records = [...machine.snapshot()];
  const header = Buffer.from(records[0] ?? new Uint8Array(0)).toString();
  const newer = records.with(0, Buffer.from(header.replace('"format":1', '"format":5')));
  t.match(read(newer), { ok: false, error: /format is 5; this version of xksd reads formats 1 to 4/ });
  const claimed = records.with(0, Buffer.from(header.replace('"format":1', '"format":2')));
  t.match(read(claimed), { ok: false, error: /members is missing/ });
  t.throws(() => new KeyStateMachine().restore(19, records), /as of index 20, not 19/);
  t.throws(() => new KeyStateMachine().restore(20, records.slice(0, 3)), /cut short/);
});

for (const seed of [31, 32, 33, 34]) {
  t.test(
    `seed ${seed}: replays agree, and a restored state goes on as the one it was taken from`,
    async (t) => {
      const commands = randomCommands(seed, 600);
      const first = new KeyStateMachine();
      const second = new KeyStateMachine();
      let restored = new KeyStateMachine();
      let done = 0;
      for (const [place, command] of commands.entries()) {
        const result = first.apply(place + 1, command);
        if (result.ok) done += 1;
        const same = JSON.stringify(result);
        if (JSON.stringify(second.apply(place + 1, command)) !== same)
          t.fail(`replay differs at ${place + 1}`);
        if (JSON.stringify(restored.apply(place + 1, command)) !== same)
          t.fail(`restored differs at ${place + 1}`);
        if (place % 97 === 0) {
          const records = [...restored.snapshot()];
          restored = new KeyStateMachine();
          restored.restore(place + 1, records);
        }
      }
      const text = (machine: KeyStateMachine): string[] =>
        [...machine.snapshot()].map((r) => Buffer.from(r).toString());
      t.strictSame(text(second), text(first));
      t.strictSame(text(restored), text(first));
      t.ok(done > 60 && done < 500, `${done} of ${commands.length} could be done`);
    },
  );
}

t.test('bytes that are no command stop the state machine at their index', async (t) => {
  const machine = machineAfter(randomCommands(41, 3));
  t.throws(
    () => machine.apply(4, Buffer.from('\x01{}')),
    /the command at index 4 can't be decoded: type is missing/,
  );
  t.equal(machine.state.appliedIndex, 3);
});

t.test('what is decoded is encoded again to the same bytes, whatever was changed in them', async (t) => {
  const random = new SeededRandom(41);
  const history = new RandomHistory(random);
  const machine = machineAfter(Array.from({ length: 400 }, () => encodeCommand(history.next())));
  const strange = ['é', '\u{1f600}', '\\', '"', '\u007f', '\n', '\u2028'].map((description) =>
    encodeRecord('retired', { accessKeyId: description, keyStore: `x${description}`, revision: 0 }),
  );
  const spellings = [
    '01',
    '-0',
    '1e3',
    ' ',
    '\\u0061',
    '\\/',
    'A',
    '9007199254740993',
    '""',
    ',',
    '[]',
    'null',
  ];
  let taken = 0;
  for (const record of [...machine.snapshot(), ...strange]) {
    const known = decodeRecord(record);
    if (!known.ok) throw new Error(known.error);
    t.strictSame(Buffer.from(encodeRecord(known.value.record, known.value.value)), Buffer.from(record));
    for (let change = 0; change < 40; change += 1) {
      const at = random.integer(record.byteLength);
      const spelling = Buffer.from(random.pick(spellings));
      const rest = record.subarray(at + random.integer(3));
      const changed = Buffer.concat([record.subarray(0, at), spelling, rest]);
      const decoded = decodeRecord(changed);
      if (!decoded.ok) continue;
      taken += 1;
      const again = encodeRecord(decoded.value.record, decoded.value.value);
      if (!changed.equals(again)) t.fail(`${changed} was taken for ${again}`);
    }
  }
  t.ok(taken > 100, `${taken} were taken`);
});

t.test('an object without fields has no one text, and so no codec', async (t) => {
  t.throws(() => objectField({}), /an object without fields has no codec/);
});
