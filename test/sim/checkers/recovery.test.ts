import t from 'tap';
import type { Entry } from '../../../src/raft/types.js';
import { encodeCommand, type RegisterCommand, RegisterMachine } from '../register-machine.js';
import { RegisterRecovery } from '../register-recovery.js';
import { type RecoveredCluster, Recovery, type SurvivingLog } from './recovery.js';
import { Verdict } from './verdict.js';

// As in checkers.test.ts: each is shown what it must refuse, and the like that is good.

const entry = (index: number, term: number, command: RegisterCommand): Entry => ({
  index,
  term,
  kind: command.kind === 'membership' ? 'membership' : 'command',
  data: encodeCommand(command, 0),
});

const denied = { kind: 'deny', request: 11, register: 1 } as const;
const granted = { kind: 'grant', request: 12, register: 2, seen: 0 } as const;
const deniedLate = { kind: 'deny', request: 13, register: 3 } as const;
const found = { kind: 'membership', request: 10, change: 'found', member: 'a', seen: 0 } as const;

const entries = [entry(1, 2, found), entry(2, 2, denied), entry(3, 2, granted), entry(4, 2, deniedLate)];

const logOf = (memberId: string, held: readonly Entry[], commitIndex: number, term = 2): SurvivingLog => ({
  memberId,
  hardState: { term, votedFor: null, commitIndex },
  snapshot: { index: 0, term: 0 },
  entries: held,
  snapshotRecords: null,
});

/** What a recovery of `held` comes to; entries beyond `commitIndex` are treated as not confirmed. */
function machineOf(held: readonly Entry[], commitIndex: number): RegisterMachine {
  const machine = new RegisterMachine(() => {});
  const recovery = new RegisterRecovery(machine, { memberId: 'a', request: 99, reported: [] });
  for (const one of held) {
    if (one.index <= commitIndex) recovery.apply(one);
    else recovery.applyUnconfirmed(one);
  }
  recovery.recover();
  return machine;
}

function verdictOf(run: (checker: Recovery) => void): string | null {
  const verdict = new Verdict();
  run(new Recovery(verdict, 'c'));
  return verdict.violation?.checker ?? null;
}

const recovered = (cluster: Partial<RecoveredCluster>, commitIndex = 2): string | null =>
  verdictOf((checker) =>
    checker.recovered(
      {
        memberId: 'a',
        clusterId: 'c2',
        position: { index: 5, term: 3 },
        machine: machineOf(entries, 2),
        ...cluster,
      },
      [logOf('a', entries, 1), logOf('b', entries.slice(0, 2), commitIndex)],
      [[13, { index: 4, term: 2 }]],
    ),
  );

t.test('a recovery keeps the log, and what it grants beyond the commit index waits', async (t) => {
  t.equal(recovered({}), null);
  const inForce = recovered({ machine: machineOf(entries, 4) });
  t.equal(inForce, 'unconfirmed grants wait');
  t.equal(recovered({ machine: machineOf(entries, 4) }, 3), null, 'it was committed');
  const cut = machineOf(entries.slice(0, 3), 2);
  t.equal(recovered({ machine: cut }), 'survivor’s log kept', 'a denial is gone');
});

t.test('what was acknowledged is in the recovered state', async (t) => {
  const overwritten = [...entries, entry(5, 2, { kind: 'deny', request: 14, register: 3 })];
  const without = overwritten.filter(({ index }) => index !== 4);
  const checked = (held: readonly Entry[]): string | null =>
    verdictOf((checker) =>
      checker.recovered(
        { memberId: 'a', clusterId: 'c2', position: { index: 6, term: 3 }, machine: machineOf(held, 5) },
        [logOf('a', overwritten, 5)],
        [
          [13, { index: 4, term: 2 }],
          [77, { index: 5, term: 4 }],
        ],
      ),
    );
  t.equal(checked(overwritten), null, 'what only others held is lost, and no violation');
  t.equal(checked(without), 'survivor’s log kept');
});

t.test('two histories have two ids, and a term of its own begins the second', async (t) => {
  t.equal(recovered({ clusterId: 'c' }), 'two histories');
  t.equal(recovered({ position: { index: 5, term: 2 } }), 'two histories');
  t.equal(
    verdictOf((checker) => checker.mixed('a', 'b', 'a vote')),
    'two histories',
  );
});

t.test('the lesser log is refused', async (t) => {
  const long = logOf('a', entries, 1);
  const short = logOf('b', entries.slice(0, 3), 1);
  const later = logOf('c', [entry(1, 3, found)], 1, 3);
  const accepted = (memberId: string, ...logs: readonly SurvivingLog[]): string | null =>
    verdictOf((checker) => checker.accepted(memberId, logs));
  t.equal(accepted('a', long, short), null);
  t.equal(accepted('b', long, short), 'lesser log refused');
  t.equal(accepted('a', long, later), 'lesser log refused', 'the longer log is of an earlier term');
  t.equal(accepted('c', long, later), null);
});

t.test('former members are fenced', async (t) => {
  t.equal(
    verdictOf((checker) => checker.finally('b', 'a: this is cluster c2')),
    null,
  );
  t.equal(
    verdictOf((checker) => checker.finally('b', null)),
    'former members are fenced',
  );
});
