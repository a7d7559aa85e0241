import { readFileSync } from 'node:fs';
import t from 'tap';
import { checkCommand } from '../../src/keystate/command-checks.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { checkActiveFormat } from '../../src/keystate/command-format.js';
import { ivBlock, ivLevelOf, ivLimits, withinBudget } from '../../src/keystate/iv-budget.js';
import { mintRequestId } from '../../src/keystate/request-id.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { Command, CommandOf, CommandResult } from '../../src/keystate/types.js';

const at = Date.UTC(2026, 0, 1);
let drawn = 0;
const envelope = () => {
  drawn += 1;
  return { requestId: mintRequestId(at, new Uint8Array(10).fill(drawn)), atMs: at, by: 'test' };
};
const reserve = (...reservations: CommandOf<'iv.reserve'>['reservations']): CommandOf<'iv.reserve'> => ({
  type: 'iv.reserve',
  ...envelope(),
  holder: 'p-1',
  reservations,
});
const text = (machine: KeyStateMachine): string[] =>
  [...machine.snapshot()].map((record) => Buffer.from(record).toString('utf8'));

class Cluster {
  readonly machine = new KeyStateMachine();

  constructor(format = 3) {
    const place = { clusterId: 'c', nodeName: 'n', memberId: 'm', address: 'n:1', format };
    this.done({ type: 'cluster.init', ...envelope(), ...place });
    const regions = ['eu-central-1'];
    this.done({
      type: 'keystore.create',
      ...envelope(),
      name: 's',
      uriPathPrefix: '',
      regions,
      adopted: false,
    });
    for (const [externalKeyId, objectId] of [
      ['k', 'aa'],
      ['l', 'bb'],
    ] as const) {
      const object = { objectId, witness: null, checkValue: null, usage: ['ENCRYPT'], description: '' };
      this.done({ type: 'key.create', ...envelope(), keyStore: 's', externalKeyId, ...object });
    }
  }

  apply(command: Command): CommandResult {
    return this.machine.apply(this.machine.state.appliedIndex + 1, encodeCommand(command));
  }

  done(command: Command): void {
    const result = this.apply(command);
    if (!result.ok) throw new Error(result.error.message);
  }
}

t.test('a block follows the rate, within 2^12 and 2^20', async (t) => {
  const whole = ivLimits.encryptionsMax;
  t.equal(ivBlock(0, whole), 2 ** 12);
  t.equal(ivBlock(6, whole), 2 ** 12);
  t.equal(ivBlock(7, whole), 2 ** 13, 'ten minutes of it, in the next power of two');
  t.equal(ivBlock(75, whole), 2 ** 16);
  t.equal(ivBlock(900, whole), 2 ** 20);
  t.equal(ivBlock(1e9, whole), 2 ** 20);
});

t.test('near the end blocks become small, so that little is lost in them', async (t) => {
  t.equal(ivBlock(900, 2 ** 26), 2 ** 20);
  t.equal(ivBlock(900, 2 ** 26 - 1), 2 ** 19);
  t.equal(ivBlock(900, 2 ** 20), 2 ** 14);
  t.equal(ivBlock(900, 10), 2 ** 12);
  t.equal(ivBlock(900, 0), 2 ** 20, 'beyond it, which is only where the operator lets it');
  for (let left = ivLimits.encryptionsMax; left > 2 ** 18; left /= 3) {
    t.ok(ivBlock(1e6, left) * 64 <= left);
  }
});

t.test('of a block that ends beyond the budget only what lies within may be used', async (t) => {
  t.equal(withinBudget(4_096, 10_000, 20_000), 4_096);
  t.equal(withinBudget(4_096, 10_000, 10_000), 4_096);
  t.equal(withinBudget(4_096, 10_000, 9_000), 3_096);
  t.equal(withinBudget(4_096, 10_000, 5_000), 0);
});

t.test('levels', async (t) => {
  const levels = [0, 0.499, 0.5, 0.899, 0.9, 0.999, 1, 2].map(ivLevelOf);
  t.strictSame(levels, ['ok', 'ok', 'warning', 'warning', 'critical', 'critical', 'exhausted', 'exhausted']);
});

t.test('what processes reserve adds up, per object, whoever it is', async (t) => {
  const cluster = new Cluster();
  const { machine } = cluster;
  t.equal(machine.state.ivBudget('aa'), null);
  cluster.done(reserve({ objectId: 'aa', used: 7, ahead: 4_096 }));
  cluster.done({ ...reserve({ objectId: 'aa', used: 0, ahead: 8_192 }), holder: 'p-2' });
  cluster.done(reserve({ objectId: 'bb', used: 1, ahead: 0 }, { objectId: 'aa', used: 0, ahead: 4_096 }));
  t.strictSame(machine.state.ivBudget('aa'), { objectId: 'aa', reserved: 16_391, rule: 'refuse' });
  t.strictSame(machine.state.ivBudget('bb'), { objectId: 'bb', reserved: 1, rule: 'refuse' });
  t.equal(machine.state.keyOfObject('aa')?.externalKeyId, 'k');
});

t.test('an object that is no key is not counted, and the others with it are', async (t) => {
  const cluster = new Cluster();
  cluster.done(reserve({ objectId: 'cc', used: 0, ahead: 4_096 }, { objectId: 'aa', used: 0, ahead: 4_096 }));
  t.equal(cluster.machine.state.ivBudget('cc'), null);
  t.equal(cluster.machine.state.ivBudget('aa')?.reserved, 4_096);
});

t.test('the same reservation again is counted again, and no request id is kept for it', async (t) => {
  const cluster = new Cluster();
  const { machine } = cluster;
  const remembered = text(machine).filter((record) => record.includes('"record":"request"')).length;
  const command = reserve({ objectId: 'aa', used: 0, ahead: 4_096 });
  cluster.done(command);
  cluster.done(command);
  t.equal(machine.state.ivBudget('aa')?.reserved, 8_192);
  t.equal(text(machine).filter((record) => record.includes('"record":"request"')).length, remembered);
  t.equal(machine.state.outcomeOf(command.requestId), null);
});

t.test('a reservation that carries its number counts once, and one before it no more', async (t) => {
  const cluster = new Cluster(4);
  const { machine } = cluster;
  const reserved = () => machine.state.ivBudget('aa')?.reserved;
  const numbered = (holder: string, sequence: number, used = 100): CommandResult =>
    cluster.apply({ ...reserve({ objectId: 'aa', used, ahead: 0 }), holder, sequence });
  t.match(numbered('p-1', 1), { ok: true, repeated: undefined });
  t.match(numbered('p-1', 1), { ok: true, repeated: true });
  t.equal(reserved(), 100);
  numbered('p-2', 1);
  numbered('p-1', 2);
  t.equal(reserved(), 300, 'each holder has numbers of its own');
  t.match(numbered('p-1', 1), { repeated: true });
  t.equal(reserved(), 300);
  t.equal(machine.state.ivSequence('p-1'), 2);
  t.equal(machine.state.ivSequence('p-3'), 0);

  const restored = new KeyStateMachine();
  restored.restore(machine.state.appliedIndex, [...machine.snapshot()]);
  t.equal(restored.stateHash(), machine.stateHash());
  t.equal(restored.state.ivSequence('p-1'), 2, 'a snapshot has them');

  for (let other = 0; other < ivLimits.holdersMax; other += 1) numbered(`q-${other}`, 1, 1);
  t.equal(machine.state.ivSequence('p-1'), 0, 'who has not reserved for longest is forgotten first');
  t.equal(machine.state.ivSequence('q-0'), 1);
  const again = new KeyStateMachine();
  again.restore(machine.state.appliedIndex, [...machine.snapshot()]);
  t.equal(again.stateHash(), machine.stateHash());
  for (const each of [machine, again]) {
    each.apply(
      machine.state.appliedIndex + 1 - (each === again ? 1 : 0),
      encodeCommand({ ...reserve({ objectId: 'aa', used: 1, ahead: 0 }), holder: 'last', sequence: 1 }),
    );
  }
  t.equal(again.stateHash(), machine.stateHash(), 'and a restored state forgets the same');
});

t.test('numbers come with format 4', async (t) => {
  const cluster = new Cluster(3);
  const command = { ...reserve({ objectId: 'aa', used: 1, ahead: 0 }), sequence: 1 };
  t.match(checkActiveFormat(command, 3), { code: 'conflict', message: /needs 4/ });
  t.match(cluster.apply(command), { ok: false, error: { code: 'conflict' } });
  t.match(text(cluster.machine)[0], /^(?!.*ivHolders)/, 'its snapshot is one that the release before reads');
  t.match(cluster.apply(reserve({ objectId: 'aa', used: 1, ahead: 0 })), { ok: true });
  cluster.done({ type: 'cluster.upgrade', ...envelope(), format: 4 });
  t.match(cluster.apply(command), { ok: true, repeated: undefined });
  t.match(text(cluster.machine)[0], /"ivHolders":1/);
});

t.test('the rule is of the current version, and stays with what was counted', async (t) => {
  const cluster = new Cluster();
  const { machine } = cluster;
  const set = (externalKeyId: string, ivBudget: 'refuse' | 'continue'): CommandResult =>
    cluster.apply({ type: 'key.set', ...envelope(), keyStore: 's', externalKeyId, ivBudget });
  t.match(set('k', 'continue'), { ok: true });
  t.strictSame(machine.state.ivBudget('aa'), { objectId: 'aa', reserved: 0, rule: 'continue' });
  cluster.done(reserve({ objectId: 'aa', used: 0, ahead: 4_096 }));
  t.strictSame(machine.state.ivBudget('aa'), { objectId: 'aa', reserved: 4_096, rule: 'continue' });
  t.match(set('k', 'refuse'), { ok: true });
  t.strictSame(machine.state.ivBudget('aa'), { objectId: 'aa', reserved: 4_096, rule: 'refuse' });
  t.match(set('none', 'continue'), { ok: false, error: { code: 'not-found' } });
});

t.test('replicas that apply the same have the same state, hash and snapshot', async (t) => {
  const commands = [
    reserve({ objectId: 'aa', used: 7, ahead: 4_096 }),
    reserve({ objectId: 'bb', used: 0, ahead: 8_192 }, { objectId: 'aa', used: 1, ahead: 0 }),
  ];
  const [one, other] = [new Cluster(), new Cluster()];
  const before = one.machine.stateHash();
  for (const { machine } of [one, other]) {
    for (const command of commands) machine.apply(machine.state.appliedIndex + 1, encodeCommand(command));
  }
  t.not(one.machine.stateHash(), before, 'it is in the hash');
  const records = [...one.machine.snapshot()];
  const restored = new KeyStateMachine();
  restored.restore(one.machine.state.appliedIndex, records);
  t.equal(restored.stateHash(), one.machine.stateHash());
  t.strictSame([...restored.state.ivBudgets()], [...other.machine.state.ivBudgets()]);
  t.strictSame(text(restored), text(one.machine));
});

t.test('a cluster of format 2 is not told of it, and would refuse it', async (t) => {
  const cluster = new Cluster(2);
  const command = reserve({ objectId: 'aa', used: 0, ahead: 4_096 });
  const before = cluster.machine.stateHash();
  t.match(checkActiveFormat(command, 2), {
    code: 'conflict',
    message: /iv.reserve needs 3: finish the upgrade/,
  });
  t.match(cluster.apply(command), { ok: false, error: { code: 'conflict' } });
  t.equal(cluster.machine.state.ivBudget('aa'), null);
  t.equal(cluster.machine.stateHash(), before);
  t.match(text(cluster.machine)[0], /^(?!.*ivBudgets)/, 'its snapshot is one that the release before reads');
  cluster.done({ type: 'cluster.upgrade', ...envelope(), format: 3 });
  cluster.done(command);
  t.equal(cluster.machine.state.ivBudget('aa')?.reserved, 4_096);
});

const strange: readonly { readonly name: string; readonly command: Command; readonly message: RegExp }[] = [
  { name: 'nothing', command: reserve(), message: /1 to 64 reservations/ },
  {
    name: 'too many',
    command: reserve(
      ...Array.from({ length: 65 }, (_, place) => ({
        objectId: (0x1000 + place).toString(16),
        used: 1,
        ahead: 0,
      })),
    ),
    message: /1 to 64 reservations/,
  },
  {
    name: 'an object twice',
    command: reserve({ objectId: 'aa', used: 1, ahead: 0 }, { objectId: 'aa', used: 1, ahead: 0 }),
    message: /of one object/,
  },
  { name: 'no object', command: reserve({ objectId: 'AA', used: 1, ahead: 0 }), message: /CKA_ID/ },
  { name: 'of none', command: reserve({ objectId: 'aa', used: 0, ahead: 0 }), message: /of something/ },
  {
    name: 'a small block',
    command: reserve({ objectId: 'aa', used: 0, ahead: 4_095 }),
    message: /4096 to 1048576/,
  },
  {
    name: 'a large block',
    command: reserve({ objectId: 'aa', used: 0, ahead: 2 ** 20 + 1 }),
    message: /4096 to 1048576/,
  },
  {
    name: 'more than the whole budget at once',
    command: reserve({ objectId: 'aa', used: 2 ** 32 + 1, ahead: 0 }),
    message: /at once/,
  },
  {
    name: 'a number that is none',
    command: { ...reserve({ objectId: 'aa', used: 1, ahead: 0 }), sequence: 0 },
    message: /numbered from 1/,
  },
  {
    name: 'no holder',
    command: { ...reserve({ objectId: 'aa', used: 1, ahead: 0 }), holder: '' },
    message: /holder/,
  },
];

for (const { name, command, message } of strange) {
  t.test(`no reservation: ${name}`, async (t) => {
    t.match(checkCommand(command), { code: 'invalid', message });
  });
}

t.test('a log of format 2 replays to what it was', async (t) => {
  const path = new URL('../../../test/keystate/data/format-2.json', import.meta.url);
  const recorded: {
    readonly commands: readonly string[];
    readonly results: readonly CommandResult[];
    readonly snapshot: readonly string[];
    readonly stateHash: string;
  } = JSON.parse(readFileSync(path, 'utf8'));
  const machine = new KeyStateMachine();
  const results = recorded.commands.map((hex, place) => machine.apply(place + 1, Buffer.from(hex, 'hex')));
  t.strictSame(results, recorded.results);
  t.strictSame(text(machine), recorded.snapshot, 'down to the snapshot, which that release can still read');
  t.equal(machine.stateHash(), recorded.stateHash);
  const restored = new KeyStateMachine();
  restored.restore(
    recorded.commands.length,
    recorded.snapshot.map((record) => Buffer.from(record, 'utf8')),
  );
  t.equal(restored.stateHash(), recorded.stateHash);
});
