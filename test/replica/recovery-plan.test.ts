import t from 'tap';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import type { KeyState } from '../../src/keystate/key-state.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { OnIsolation } from '../../src/keystate/types.js';
import type { Entry } from '../../src/raft/types.js';
import { planRecovery, type RecoveryInputs, type RecoveryPlan } from '../../src/replica/recovery-plan.js';
import type { SurvivorReport } from '../../src/replication/survivor-report.js';
import { CommandLog, identityOf } from '../support/command-log.js';
import { requestIdAt, startMs } from '../support/founded-cluster.js';
import { SeededRandom } from '../support/seeded-random.js';

const accessKeyId = 'A'.repeat(20);

const servedMs = (rule: OnIsolation): number =>
  rule.rule === 'serve' ? Number.POSITIVE_INFINITY : rule.boundMs;

let requests = 5_000;

function plan(log: CommandLog, commitIndex: number, inputs: Partial<RecoveryInputs> = {}) {
  return planRecovery({
    identity: identityOf('b'),
    recovered: {
      snapshot: null,
      entries: log.entries,
      hardState: { term: log.term, votedFor: null, commitIndex },
    },
    fence: null,
    survivors: [],
    newClusterId: 'c-2',
    address: 'b.example:7443',
    atMs: startMs,
    mintRequestId: () => {
      requests += 1;
      return requestIdAt(startMs, requests);
    },
    by: 'test',
    ...inputs,
  });
}

function planned(log: CommandLog, commitIndex: number, inputs: Partial<RecoveryInputs> = {}): RecoveryPlan {
  const made = plan(log, commitIndex, inputs);
  if (!made.ok) throw new Error(made.error);
  return made.value;
}

const report = (name: string, fields: Partial<SurvivorReport>): SurvivorReport => ({
  clusterId: 'c-1',
  memberId: `m-${name}`,
  nodeName: name,
  lastLog: { index: 1, term: 1 },
  commitIndex: 1,
  ...fields,
});

function populated(): CommandLog {
  const log = new CommandLog();
  log.found(['a', 'b', 'c']);
  log.keyStore('prod');
  log.key('prod', 'old');
  return log;
}

t.test(
  'the whole log is kept; grants beyond the commit index wait, denials and all else stand',
  async (t) => {
    const log = populated();
    const commitIndex = log.lastIndex;
    log.startTerm();
    log.add({ type: 'key.disable', keyStore: 'prod', externalKeyId: 'old' });
    const credential = log.credential('prod', accessKeyId);
    const key = log.key('prod', 'new');
    log.apply({ type: 'key.enable', keyStore: 'prod', externalKeyId: 'old', revision: 1 });
    const made = planned(log, commitIndex);
    const { state } = made.machine;
    t.equal(state.cluster()?.clusterId, 'c-2');
    t.strictSame(state.membership(), { voters: ['m-b'], learners: [] });
    t.match(state.member('m-b'), { address: 'b.example:7443', status: 'voter' });
    t.match(state.key('prod', 'old'), { status: 'DISABLED' }, 'a denial stays in force');
    t.match(state.key('prod', 'new'), { status: 'DISABLED' }, 'the object is not lost, and does nothing');
    t.equal(state.credential(accessKeyId), null);
    t.match(state.keyStore('prod'), { status: 'ENABLED' });
    t.strictSame(
      [...state.pending()].map(({ index }) => index),
      [credential, key],
    );
    t.strictSame(
      made.unconfirmed.map(({ command, becomes, term }) => [command, becomes, term]),
      [
        ['key.disable', 'kept', 2],
        ['credential.create', 'pending', 2],
        ['key.create', 'pending', 2],
        ['key.enable', 'no-effect', 2],
      ],
    );
    t.strictSame(made.unconfirmed[1]?.names, { keyStore: 'prod', accessKeyId });
    t.strictSame(made.leftBehind.map(({ name }) => name).sort(), ['a', 'c']);
    t.strictSame([...made.notCompared].sort(), ['a', 'c']);
    t.strictSame(made.position, { index: log.lastIndex + 1, term: 3 });
    t.strictSame(made.hardState, { term: 3, votedFor: 'm-b', commitIndex: log.lastIndex + 1 });
  },
);

t.test('what any survivor knows to be committed is not in doubt', async (t) => {
  const log = populated();
  const commitIndex = log.lastIndex;
  log.key('prod', 'known');
  log.key('prod', 'new');
  const lastLog = { index: commitIndex + 1, term: 1 };
  const made = planned(log, commitIndex, {
    survivors: [report('c', { lastLog, commitIndex: commitIndex + 1 })],
  });
  t.equal(made.commitIndex, commitIndex + 1);
  t.equal(made.machine.state.key('prod', 'known')?.status, 'ENABLED');
  t.equal(made.machine.state.key('prod', 'new')?.status, 'DISABLED');
  t.strictSame(made.notCompared, ['a']);
});

t.test('paper §5.4.1: the lesser log is refused, with who has the greater', async (t) => {
  const log = populated();
  log.startTerm();
  const { lastIndex } = log;
  const lastLog = { index: lastIndex, term: 2 };
  const against = (fields: Partial<SurvivorReport>) =>
    plan(log, lastIndex - 1, { survivors: [report('a', {}), report('c', fields)] });
  t.match(against({ lastLog: { index: lastIndex + 1, term: 2 } }), {
    ok: false,
    error: new RegExp(
      `^c has the greater log: it ends at index ${lastIndex + 1} of term 2, and the log of b at index ${lastIndex} of term 2. Recover c:`,
    ),
  });
  t.match(against({ lastLog: { index: 1, term: 3 } }), { ok: false, error: /^c has the greater log/ });
  t.match(against({ lastLog }), { ok: true }, 'either of two equal ones');
  t.match(against({ lastLog: { index: lastIndex + 7, term: 1 } }), { ok: true });
});

t.test('reports that do not fit', async (t) => {
  const log = populated();
  const { lastIndex } = log;
  const lastLog = { index: lastIndex, term: 1 };
  const with_ = (name: string, fields: Partial<SurvivorReport>) =>
    plan(log, lastIndex, { survivors: [report(name, fields)] });
  t.match(with_('c', { clusterId: 'c-9' }), { ok: false, error: /c is of cluster c-9.*no log in common/ });
  t.match(with_('b', {}), { ok: false, error: /of this very member.*has run since/ });
  t.match(with_('b', { lastLog }), { ok: true }, 'its own, as it is');
  t.match(with_('c', { lastLog: { index: 3, term: 1 }, commitIndex: lastIndex + 1 }), {
    ok: false,
    error: /rolled back/,
  });
  const stranger = planned(log, lastIndex, { survivors: [report('x', {})] });
  t.ok(stranger.leftBehind.some(({ memberId }) => memberId === 'm-x'));
});

t.test('a node that is not the one to recover', async (t) => {
  const log = populated();
  t.match(plan(log, log.lastIndex, { fence: 'removed, they say' }), {
    ok: false,
    error: /b was told that it does not belong.*\(removed, they say\).*recover another/,
  });
  const empty = new CommandLog();
  t.match(plan(empty, 0), { ok: false, error: /nothing to recover/ });
  const alone = new CommandLog();
  alone.found(['b']);
  t.match(plan(alone, alone.lastIndex), { ok: false, error: /only voter.*start xksd/ });
  log.add({ type: 'member.remove', memberId: 'm-b' });
  t.match(plan(log, log.lastIndex), { ok: false, error: /former member/ });
});

t.test('a cluster whose last removal is not known to be committed has lost its quorum too', async (t) => {
  const log = new CommandLog();
  log.found(['a', 'b']);
  const commitIndex = log.lastIndex;
  log.add({ type: 'member.remove', memberId: 'm-a' });
  const made = planned(log, commitIndex);
  t.strictSame(made.notCompared, ['a']);
  t.strictSame(made.leftBehind, [{ name: 'a', memberId: 'm-a' }]);
});

t.test('an entry of a later release stops it', async (t) => {
  const log = populated();
  const entry: Entry = { index: log.lastIndex + 1, term: 1, kind: 'command', data: Uint8Array.of(9) };
  log.entries.push(entry);
  t.match(plan(log, 1), { ok: false, error: /the log can't be replayed.*index 10.*format is 9/ });
});

t.test('a confirmation that is itself in doubt', async (t) => {
  const log = populated();
  const first = planned(log, log.lastIndex - 1);
  t.equal(first.machine.state.key('prod', 'old')?.status, 'DISABLED');
  const snapshot = { ...first.position, records: [...first.machine.snapshot()] };
  const next = new CommandLog();
  next.machine.restore(snapshot.index, snapshot.records);
  const [grant] = next.state.pending();
  const index = snapshot.index + 1;
  const data = encodeCommand({
    type: 'pending.confirm',
    index: grant?.index ?? 0,
    requestId: requestIdAt(startMs, 9_000),
    atMs: startMs,
    by: 'test',
  });
  const entries: Entry[] = [{ index, term: 4, kind: 'command', data }];
  const hardState = { term: 4, votedFor: null, commitIndex: snapshot.index };
  const again = plan(next, 0, {
    identity: identityOf('z'),
    recovered: { snapshot, entries, hardState },
    newClusterId: 'c-3',
  });
  if (!again.ok) throw new Error(again.error);
  t.match([...again.value.machine.state.pending()], [{ index, type: 'key.create', name: 'old' }]);
  t.equal(again.value.machine.state.key('prod', 'old')?.status, 'DISABLED');
});

t.test('many grants, of one key store too, are taken back and given back, each once', async (t) => {
  const log = populated();
  const commitIndex = log.lastIndex;
  for (let store = 0; store < 130; store += 1) {
    const name = `s-${store}`;
    log.keyStore(name);
    const stop = log.add({
      type: 'keystore.set',
      name,
      onIsolation: { rule: 'stop', boundMs: 7_000 },
      revision: 0,
    });
    log.add({
      type: 'keystore.set',
      name,
      onIsolation: { rule: 'stop', boundMs: 9_000 },
      revision: stop,
    });
    log.key(name, 'k');
  }
  const made = planned(log, commitIndex);
  const { state } = made.machine;
  const indexes = [...state.pending()].map(({ index }) => index);
  t.equal(indexes.length, 3 * 130);
  t.equal(made.position.index, log.lastIndex + 4, 'in as few commands as hold them');
  for (const { name } of state.keyStores())
    t.equal(state.keyStore(name)?.status, name === 'prod' ? 'ENABLED' : 'DISABLED');
  confirmAll(made, indexes.reverse());
  for (const { name, status, onIsolation } of state.keyStores()) {
    if (name === 'prod') continue;
    if (status !== 'ENABLED' || servedMs(onIsolation) !== 9_000) t.fail(`${name} is not as it was`);
    if (state.key(name, 'k')?.status !== 'ENABLED') t.fail(`the key of ${name} is not as it was`);
  }
});

function confirmAll({ machine }: RecoveryPlan, indexes: readonly number[]): void {
  for (const index of indexes) {
    requests += 1;
    const result = machine.state.apply(machine.state.appliedIndex + 1, {
      type: 'pending.confirm',
      index,
      requestId: requestIdAt(startMs, requests),
      atMs: startMs,
      by: 'test',
    });
    if (!result.ok) throw new Error(`confirming ${index}: ${result.error.message}`);
  }
}

/** Everything that is in force, by name. */
function inForce(state: KeyState): Set<string> {
  const names = new Set<string>();
  for (const { name, status } of state.keyStores()) {
    if (status === 'ENABLED') names.add(`key store ${name}`);
    for (const credential of state.credentials(name)) names.add(`credential ${credential.accessKeyId}`);
    for (const key of state.keys(name)) {
      if (key.status === 'ENABLED') names.add(`key ${name}/${key.externalKeyId}`);
    }
  }
  return names;
}

const isolation = (state: KeyState): Map<string, number> =>
  new Map([...state.keyStores()].map(({ name, onIsolation }) => [name, servedMs(onIsolation)]));

/** Commands out of few names, with the revisions that there are, so that most can be done. */
function randomLog(random: SeededRandom, commands: number): CommandLog {
  const log = populated();
  const stores = ['prod', 'p', 'q'];
  const ids = ['old', 'k1', 'k2'];
  const credentials = ['A', 'B', 'C', 'D'].map((letter) => letter.repeat(20));
  for (let count = 0; count < commands; count += 1) {
    const name = random.pick(stores);
    const externalKeyId = random.pick(ids);
    const credential = random.pick(credentials);
    const revision = log.state.keyStore(name)?.revision ?? 0;
    const keyRevision = log.state.key(name, externalKeyId)?.revision ?? 0;
    const exists = log.state.keyStore(name) !== null;
    const attempt = random.pick([
      () => (exists ? log.apply({ type: 'keystore.enable', name, revision }) : log.keyStore(name)),
      () => log.apply({ type: 'keystore.disable', name }),
      () =>
        log.apply({
          type: 'keystore.set',
          name,
          revision,
          onIsolation: random.pick([
            { rule: 'serve' },
            { rule: 'stop', boundMs: 6_000 },
            { rule: 'stop', boundMs: 20_000 },
          ] as const),
        }),
      () =>
        exists && keyRevision === 0
          ? log.key(name, externalKeyId)
          : log.apply({ type: 'key.enable', keyStore: name, externalKeyId, revision: keyRevision }),
      () => log.apply({ type: 'key.disable', keyStore: name, externalKeyId }),
      () =>
        log.apply({
          type: 'credential.create',
          keyStore: name,
          accessKeyId: credential,
          sealedSecret: {
            nonce: new Uint8Array(12),
            ciphertext: new Uint8Array(43),
            tag: new Uint8Array(16),
          },
        }),
      () => log.apply({ type: 'credential.retire', keyStore: name, accessKeyId: credential }),
      () => log.startTerm(),
    ]);
    attempt();
  }
  return log;
}

t.test(
  'whatever the history: nothing is in force that was not, and confirmed it is as the log says',
  async (t) => {
    const failures: string[] = [];
    let pendings = 0;
    for (let seed = 1; seed <= 400; seed += 1) {
      const random = new SeededRandom(seed);
      const log = randomLog(random, 40);
      const commitIndex = log.lastIndex - random.integer(30);
      const committed = new KeyStateMachine();
      for (const { index, kind, data } of log.entries.slice(0, commitIndex)) {
        if (kind === 'noop') committed.skip(index);
        else committed.apply(index, data);
      }
      const made = planned(log, commitIndex);
      const { state } = made.machine;
      const before = inForce(committed.state);
      const after = inForce(state);
      const whole = inForce(log.state);
      const fail = (what: string): void => void failures.push(`seed ${seed}: ${what}`);
      for (const name of after) {
        if (!before.has(name)) fail(`${name} was granted by nobody known`);
        if (!whole.has(name)) fail(`${name} was denied`);
      }
      const pending = [...state.pending()];
      for (const [name, ms] of isolation(state)) {
        const wholeMs = isolation(log.state).get(name) ?? 0;
        const committedMs = isolation(committed.state).get(name) ?? Number.POSITIVE_INFINITY;
        if (ms > wholeMs || ms > committedMs) fail(`${name} is served for longer`);
      }
      pendings += pending.length;
      confirmAll(
        made,
        pending.map(({ index }) => index).sort(() => random.integer(3) - 1),
      );
      const given = inForce(state);
      const lost = [...whole].filter((name) => !given.has(name));
      if (given.size !== whole.size || lost.length > 0) fail(`confirmed, it lacks ${lost.join(', ')}`);
      if (JSON.stringify([...isolation(state)]) !== JSON.stringify([...isolation(log.state)])) {
        fail('confirmed, the isolation rules are others');
      }
    }
    t.strictSame(failures.slice(0, 5), []);
    t.ok(pendings > 400, `${pendings} pending grants`);
  },
);
