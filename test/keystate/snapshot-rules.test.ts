import { createHash } from 'node:crypto';
import t from 'tap';
import { clusterLimits } from '../../src/keystate/cluster-types.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { SnapshotReader } from '../../src/keystate/snapshot-codec.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import { RandomHistory } from '../support/random-history.js';
import { SeededRandom } from '../support/seeded-random.js';

const read = (records: Iterable<Uint8Array>) => {
  const reader = new SnapshotReader();
  for (const record of records) reader.push(record);
  return reader.finish();
};

/** Records of a snapshot as text, and put together again under a true end. */
function sealed(records: readonly string[]): Buffer[] {
  const hash = createHash('sha256');
  const bytes = records.map((record) => Buffer.from(record, 'utf8'));
  for (const record of bytes) {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(record.byteLength);
    hash.update(length).update(record);
  }
  const end = { record: 'end', value: { records: records.length, sha256: hash.digest('hex') } };
  return [...bytes, Buffer.from(JSON.stringify(end))];
}

function historyOf(seed: number, commands: number): KeyStateMachine {
  const machine = new KeyStateMachine();
  const history = new RandomHistory(new SeededRandom(seed));
  for (let index = 1; index <= commands; index += 1) machine.apply(index, encodeCommand(history.next()));
  return machine;
}

const machine = historyOf(78, 400);
const records = [...machine.snapshot()].map((record) => Buffer.from(record).toString('utf8'));
const body = records.slice(0, -1);
const kindOf = (record: string): string => JSON.parse(record).record;
const first = (kind: string): string => body.find((record) => kindOf(record) === kind) ?? '';

t.test('the snapshot at hand has every kind of record', async (t) => {
  t.strictSame([...new Set(records.map(kindOf))].sort(), [
    'cluster',
    'credential',
    'end',
    'formerMember',
    'header',
    'ivBudget',
    'ivHolder',
    'key',
    'keyStore',
    'member',
    'pending',
    'request',
    'requestFloor',
    'retired',
    'settings',
    'token',
  ]);
  t.ok(read(sealed(body)).ok, 'and is read when put together again');
});

t.test('a record that lacks, is there twice, cut off or has a flipped byte', async (t) => {
  const bytes = records.map((record) => Buffer.from(record, 'utf8'));
  for (const [place, record] of bytes.entries()) {
    if (read(bytes.toSpliced(place, 1)).ok) t.fail(`without record ${place}`);
    if (read(bytes.toSpliced(place, 0, record)).ok) t.fail(`record ${place} twice`);
    if (read(bytes.slice(0, place)).ok) t.fail(`cut before record ${place}`);
    // One of each kind is enough for this.
    if (kindOf(records[place - 1] ?? '{}') === kindOf(records[place] ?? '{}')) continue;
    for (let offset = 0; offset < record.byteLength; offset += 7) {
      const copy = Buffer.from(record);
      copy.writeUInt8(copy.readUInt8(offset) ^ 1, offset);
      if (read(bytes.with(place, copy)).ok) t.fail(`record ${place}, byte ${offset}`);
    }
  }
});

/** Under a true end: what the digest does not see. */
const wrong: readonly {
  readonly name: string;
  readonly records: readonly string[];
  readonly error: RegExp;
}[] = [
  { name: 'settings twice', records: twice('settings'), error: /settings twice/ },
  { name: 'a second cluster', records: twice('cluster'), error: /a second cluster/ },
  { name: 'a member twice', records: twice('member'), error: /a member twice/ },
  {
    name: 'two members of one name',
    records: after('member', first('member').replace(/"memberId":"[^"]+"/, '"memberId":"m-other"')),
    error: /a member's name twice/,
  },
  {
    name: 'too many members',
    records: after(
      'member',
      ...Array.from({ length: clusterLimits.membersMax }, (_, place) =>
        first('member')
          .replace(/"memberId":"[^"]+"/, `"memberId":"o-${place}"`)
          .replace(/"name":"[^"]+"/, `"name":"o-${place}"`),
      ),
    ),
    error: /too many members/,
  },
  { name: 'a retired credential twice', records: twice('retired'), error: /a retired credential twice/ },
  { name: 'a former member twice', records: twice('formerMember'), error: /a former member twice/ },
  { name: 'a pending grant twice', records: twice('pending'), error: /a pending grant twice/ },
  { name: 'random IVs of a key twice', records: twice('ivBudget'), error: /random IVs of a key twice/ },
  {
    name: 'random IVs of no key',
    records: changed('ivBudget', /"objectId":"[^"]+"/, '"objectId":"ffff"'),
    error: /random IVs of no key/,
  },
  { name: 'a holder twice', records: twice('ivHolder'), error: /a holder of random IVs twice/ },
  {
    name: 'holders in a snapshot of format 3',
    records: changed('header', /"format":4(.*),"ivHolders".*$/, '"format":3$1}}'),
    error: /a snapshot of format 3 has no ivHolder/,
  },
  {
    name: 'random IVs in a snapshot of format 2',
    records: changed('header', /"format":4(.*),"ivBudgets".*$/, '"format":2$1}}'),
    error: /a snapshot of format 2 has no ivBudget/,
  },
  { name: 'a floor twice', records: twice('requestFloor'), error: /a request floor too many/ },
  {
    name: 'a floor that is no id',
    records: changed('requestFloor', /"requestId":"[^"]+"/, '"requestId":"r-1"'),
    error: /no request id/,
  },
  { name: 'a request twice', records: twice('request'), error: /a request twice/ },
  {
    name: 'a request that is none',
    records: changed('request', /"requestId":"[^"]+"/, '"requestId":"r-1"'),
    error: /a request that is none/,
  },
  {
    name: 'a request without result',
    records: changed('request', /"revision":.*$/, '"revision":null,"refusal":null}}'),
    error: /without its one result/,
  },
  {
    name: 'a rule spelt out that is the default',
    records: body.map((record) =>
      kindOf(record) === 'keyStore' && !record.includes('onIsolation')
        ? record.replace(/}}$/, ',"onIsolation":{"rule":"serve"}}}')
        : record,
    ),
    error: /canonical/,
  },
  {
    name: 'another count of members',
    records: changed('header', /"members":\d+/, '"members":7'),
    error: /other counts/,
  },
  {
    name: 'another count of budgets',
    records: changed('header', /"ivBudgets":\d+/, '"ivBudgets":7'),
    error: /other counts/,
  },
  {
    name: 'another count of requests',
    records: changed('header', /"requests":\d+/, '"requests":7'),
    error: /other counts/,
  },
  {
    name: 'records of format 2 in a snapshot of format 1',
    records: changed('header', /"format":4(.*),"members".*$/, '"format":1$1}}'),
    error: /a snapshot of format 1 has no settings|a snapshot of format 1 has no member/,
  },
  {
    name: 'an isolation rule in a snapshot of format 1',
    records: [
      first('header').replace(/"format":4(.*),"members".*$/, '"format":1$1}}'),
      first('keyStore').replace(/}}$/, ',"onIsolation":{"rule":"stop","boundMs":6000}}}'),
    ].map((record) => record.replace(/,"onIsolation":.*,"onIsolation"/, ',"onIsolation"')),
    error: /of format 1 has no isolation rule/,
  },
];

function after(kind: string, ...added: readonly string[]): readonly string[] {
  return body.toSpliced(body.indexOf(first(kind)) + 1, 0, ...added);
}

function twice(kind: string): readonly string[] {
  return after(kind, first(kind));
}

function changed(kind: string, pattern: RegExp, replacement: string): readonly string[] {
  return body.with(body.indexOf(first(kind)), first(kind).replace(pattern, replacement));
}

for (const { name, records: forged, error } of wrong) {
  t.test(`no snapshot: ${name}`, async (t) => {
    t.match(read(sealed(forged)), { ok: false, error });
  });
}
