import t from 'tap';
import type { Entry, EntryKind, HardState, Message, RaftStatus } from '../../../src/raft/types.js';
import { Acknowledgements } from './acknowledgements.js';
import { ApplicationOrder } from './application-order.js';
import { CommittedEntries } from './committed-entries.js';
import { DurableState } from './durable-state.js';
import { ExactlyOnce } from './exactly-once.js';
import { LogMatching } from './log-matching.js';
import { MatchIndex } from './match-index.js';
import { emptyState, ObservedLog } from './observed-log.js';
import { OneLeaderPerTerm } from './one-leader-per-term.js';
import { checkRegisters, type RegisterOperation } from './register-history.js';
import { SafetyCheckers } from './safety.js';
import { StateHashes } from './state-hashes.js';
import { Verdict } from './verdict.js';

// A checker that has never failed proves nothing: each is shown a history that it must refuse, and a like one that is good.

const entry = (index: number, term: number, text = 'x', kind: EntryKind = 'command'): Entry => ({
  index,
  term,
  kind,
  data: Buffer.from(text),
});

const nothing = { index: 0, term: 0 };

const hardState = (term: number, votedFor: string | null, commitIndex: number): HardState => ({
  term,
  votedFor,
  commitIndex,
});

const logOf = (...entries: readonly Entry[]): ObservedLog => new ObservedLog({ ...emptyState, entries });

function verdictOf(run: (verdict: Verdict) => void): string | null {
  const verdict = new Verdict();
  run(verdict);
  return verdict.violation?.checker ?? null;
}

t.test('one leader per term', async (t) => {
  const two = (first: string, second: string): string | null =>
    verdictOf((verdict) => {
      const checker = new OneLeaderPerTerm(verdict);
      checker.leads(3, first);
      checker.leads(4, 'c');
      checker.leads(3, second);
    });
  t.equal(two('a', 'b'), 'one leader per term');
  t.equal(two('a', 'a'), null);
});

t.test('log matching', async (t) => {
  const logs = (...all: readonly (readonly Entry[])[]): string | null =>
    verdictOf((verdict) => {
      const checker = new LogMatching(verdict);
      for (const [place, entries] of all.entries()) {
        checker.appended(`n${place}`, logOf(...entries), entries);
      }
    });
  t.equal(logs([entry(1, 1), entry(2, 1)], [entry(1, 1), entry(2, 1)]), null);
  t.equal(logs([entry(1, 1, 'x')], [entry(1, 1, 'y')]), 'log matching', 'the same place, another command');
  t.equal(logs([entry(1, 1)], [entry(1, 1, 'x', 'membership')]), 'log matching', 'of another kind');
  t.equal(
    logs([entry(1, 1), entry(2, 3)], [entry(1, 2), entry(2, 3)]),
    'log matching',
    'the same entry after different ones',
  );
  t.equal(logs([entry(1, 2), entry(2, 1)]), 'log matching', 'terms fall');
  t.equal(
    logs([entry(1, 1), entry(2, 1)], [entry(1, 1), entry(2, 2)]),
    null,
    'logs may differ at their ends',
  );
});

t.test('state machine safety', async (t) => {
  const committed = (left: Entry, right: Entry): string | null =>
    verdictOf((verdict) => {
      const checker = new CommittedEntries(verdict);
      checker.committed('a', 2, left);
      checker.committed('b', 2, right);
    });
  t.equal(committed(entry(1, 1), entry(1, 1)), null);
  t.equal(committed(entry(1, 1, 'x'), entry(1, 1, 'y')), 'state machine safety');
  t.equal(committed(entry(1, 1), entry(1, 2)), 'state machine safety');
});

t.test('leader completeness', async (t) => {
  const leads = (term: number, ...entries: readonly Entry[]): string | null =>
    verdictOf((verdict) => {
      const checker = new CommittedEntries(verdict);
      checker.committed('a', 2, entry(1, 1));
      checker.committed('a', 4, entry(2, 1));
      checker.leader('b', term, logOf(...entries));
    });
  t.equal(leads(5, entry(1, 1), entry(2, 1)), null);
  t.equal(leads(5, entry(1, 1)), 'leader completeness', 'an entry is missing');
  t.equal(leads(5, entry(1, 1), entry(2, 3)), 'leader completeness', 'another is in its place');
  t.equal(leads(3, entry(1, 1)), null, 'index 2 was committed in a later term');
  t.equal(leads(3), 'leader completeness', 'index 1 in an earlier one');
  const later = (term: number): string | null =>
    verdictOf((verdict) => {
      const checker = new CommittedEntries(verdict);
      checker.committed('a', 4, entry(1, 1));
      checker.leaderHolds('b', term, logOf(), entry(1, 1));
    });
  t.equal(later(5), 'leader completeness', 'found out after the leader stood');
  t.equal(later(4), null);
});

t.test('terms, commit indexes and votes', async (t) => {
  const persist = (next: HardState): string | null =>
    verdictOf((verdict) => {
      const log = new ObservedLog({ ...emptyState, hardState: hardState(3, 'b', 7) });
      new DurableState(verdict).persist('a', log, next);
    });
  t.equal(persist(hardState(3, 'b', 8)), null);
  t.equal(persist(hardState(4, null, 7)), null);
  t.equal(persist(hardState(2, 'b', 7)), 'monotone term');
  t.equal(persist(hardState(3, 'b', 6)), 'monotone commit');
  t.equal(persist(hardState(3, 'c', 7)), 'one vote per term');
  t.equal(persist(hardState(3, null, 7)), 'one vote per term');
  const recovered = (state: HardState, entries: readonly Entry[]): string | null =>
    verdictOf((verdict) => {
      const log = new ObservedLog({ ...emptyState, hardState: hardState(3, 'b', 1), entries: [entry(1, 1)] });
      new DurableState(verdict).recovered('a', log, { ...emptyState, hardState: state, entries });
    });
  t.equal(recovered(hardState(3, 'b', 1), [entry(1, 1)]), null);
  t.equal(recovered(hardState(2, 'b', 1), [entry(1, 1)]), 'monotone term');
  t.equal(recovered(hardState(3, 'b', 0), [entry(1, 1)]), 'monotone commit');
  t.equal(recovered(hardState(3, null, 1), [entry(1, 1)]), 'one vote per term');
  t.equal(recovered(hardState(3, 'b', 1), []), 'durable log');
});

t.test('nothing is said before it is durable, and no vote twice', async (t) => {
  const says = (message: Message, log: ObservedLog, earlier: Message | null = null): string | null =>
    verdictOf((verdict) => {
      const checker = new DurableState(verdict);
      if (earlier !== null) checker.says(earlier, log);
      checker.says(message, log);
    });
  const grant = (to: string): Message => ({
    kind: 'voteResponse',
    from: 'a',
    to,
    term: 3,
    granted: true,
    committed: nothing,
  });
  const log = new ObservedLog({ ...emptyState, hardState: hardState(3, 'b', 0), entries: [entry(1, 1)] });
  const appendResponse = (index: number): Message => ({
    kind: 'appendResponse',
    from: 'a',
    to: 'b',
    term: 3,
    index,
    rejected: false,
    hint: { index: 0, term: 0 },
    lastIndex: index,
  });
  t.equal(says(grant('b'), log), null);
  t.equal(says(grant('b'), log, grant('b')), null);
  t.equal(says(grant('c'), log), 'durable before said');
  t.equal(says({ ...grant('b'), term: 4 }, log), 'durable before said');
  const forgetful = new ObservedLog({ ...emptyState, hardState: hardState(4, null, 0) });
  t.equal(says(grant('c'), forgetful, grant('b')), 'one vote per term', 'its disk need not tell');
  t.equal(
    says({ kind: 'preVoteResponse', from: 'a', to: 'b', term: 9, granted: true, committed: nothing }, log),
    null,
  );
  t.equal(says(appendResponse(1), log), null);
  t.equal(says(appendResponse(2), log), 'durable before said');
  log.append([entry(1, 3)]);
  t.equal(says(appendResponse(1), log), 'durable before said', 'it is being replaced');
  log.synced();
  t.equal(says(appendResponse(1), log), null);
});

t.test('a disk may forget what was wiped', async (t) => {
  const verdict = new Verdict();
  const checkers = new SafetyCheckers(verdict);
  checkers.recovered('a', { ...emptyState, hardState: hardState(3, null, 0) }, true);
  checkers.recovered('a', emptyState, false);
  t.equal(verdict.violation, null);
  checkers.recovered('a', { ...emptyState, hardState: hardState(3, null, 0) }, true);
  checkers.recovered('a', emptyState, true);
  t.equal(verdict.violation?.checker, 'monotone term');
});

t.test('committed entries are not written over', async (t) => {
  const write = (index: number): string | null =>
    verdictOf((verdict) => {
      const checkers = new SafetyCheckers(verdict);
      checkers.persists('a', [entry(1, 1), entry(2, 1)], hardState(1, null, 1));
      checkers.persists('a', [entry(index, 2)], null);
    });
  t.equal(write(2), null);
  t.equal(write(3), null);
  t.equal(write(1), 'durable log');
  t.equal(write(4), 'durable log', 'a gap');
});

t.test('what the disk lacks is neither committed nor applied', async (t) => {
  const verdict = new Verdict();
  const checkers = new SafetyCheckers(verdict);
  checkers.persists('a', [entry(1, 1)], hardState(1, null, 2));
  t.equal(verdict.violation?.checker, 'state machine safety');
  t.equal(
    verdictOf((verdict) => new SafetyCheckers(verdict).applies('a', 1, null, 0)),
    'application order',
  );
});

t.test('a leader is held to what was committed before', async (t) => {
  const verdict = new Verdict();
  const checkers = new SafetyCheckers(verdict);
  checkers.persists('a', [entry(1, 1)], hardState(1, null, 1));
  checkers.recovered('b', { ...emptyState, hardState: hardState(2, null, 0) }, true);
  checkers.says({ kind: 'heartbeat', from: 'b', to: 'a', term: 2, commitIndex: 0, readId: null });
  t.equal(verdict.violation?.checker, 'leader completeness');
  t.equal(checkers.newestLeader, 'b');
});

t.test('a leader counts others for what they hold', async (t) => {
  const counts = (theirs: ObservedLog, matchIndex: number, excused = false): string | null => {
    const own = logOf(entry(1, 1), entry(2, 3));
    const progress = [
      {
        memberId: 'b',
        learner: false,
        state: 'replicate' as const,
        matchIndex,
        nextIndex: matchIndex + 1,
        recentlyActive: true,
        inflightMessages: 0,
        lostAcknowledged: false,
      },
    ];
    const status: RaftStatus = {
      memberId: 'a',
      role: 'leader',
      term: 3,
      votedFor: 'a',
      leader: 'a',
      commitIndex: 0,
      appliedIndex: 0,
      firstIndex: 1,
      lastIndex: 2,
      lastTerm: 3,
      membership: { voters: ['a', 'b'], learners: [] },
      progress,
      transferee: null,
      lostAcknowledged: false,
    };
    return verdictOf((verdict) =>
      new MatchIndex(verdict).holds(
        status,
        (member) => (member === 'a' ? own : theirs),
        () => excused,
      ),
    );
  };
  t.equal(counts(logOf(entry(1, 1), entry(2, 3)), 2), null);
  t.equal(counts(logOf(entry(1, 1)), 1), null);
  t.equal(counts(logOf(entry(1, 1)), 2), 'match index', 'it holds less');
  t.equal(counts(logOf(entry(1, 1), entry(2, 2)), 2), 'match index', 'it holds another entry');
  t.equal(counts(logOf(), 2, true), null, 'its disk was taken from it');
  const ahead = logOf(entry(1, 1), entry(2, 4));
  ahead.pendingHardState = hardState(4, null, 0);
  t.equal(counts(ahead, 2), null, 'it follows another by now');
});

t.test('equal state at equal index', async (t) => {
  const reached = (left: number, right: number): string | null =>
    verdictOf((verdict) => {
      const checker = new StateHashes(verdict);
      checker.reached('a', 5, left);
      checker.reached('b', 5, right);
    });
  t.equal(reached(1, 1), null);
  t.equal(reached(1, 2), 'equal state at equal index');
});

t.test('application order', async (t) => {
  const applies = (...indexes: readonly number[]): string | null =>
    verdictOf((verdict) => {
      const checker = new ApplicationOrder(verdict);
      checker.starts('a', 4);
      for (const index of indexes) checker.applies('a', index);
    });
  t.equal(applies(5, 6), null);
  t.equal(applies(6), 'application order');
  t.equal(applies(5, 5), 'application order');
  const announces = (index: number): string | null =>
    verdictOf((verdict) => {
      const checker = new ApplicationOrder(verdict);
      checker.applies('a', 1);
      checker.announces('a', index);
    });
  t.equal(announces(1), null);
  t.equal(announces(2), 'application order', 'before it is applied');
});

t.test('acknowledged, read and fresh', async (t) => {
  const with3 = (use: (checker: Acknowledgements) => void): string | null =>
    verdictOf((verdict) => {
      const committed = new CommittedEntries(verdict);
      for (const index of [1, 2, 3]) committed.committed('a', 1, entry(index, 1, `command ${index}`));
      const checker = new Acknowledgements(verdict, committed);
      checker.acknowledged(100, 2, 7, Buffer.from('command 2'));
      checker.acknowledged(200, 3, 8, Buffer.from('command 3'));
      use(checker);
    });
  t.equal(
    with3((checker) => checker.acknowledged(300, 1, 9, Buffer.from('command 1'))),
    null,
  );
  const present = 'acknowledged is present';
  t.equal(
    with3((checker) => checker.acknowledged(300, 4, 9, Buffer.from('command 4'))),
    present,
    'it is not there',
  );
  t.equal(
    with3((checker) => checker.acknowledged(300, 1, 9, Buffer.from('command 9'))),
    present,
    'another is there',
  );
  t.equal(
    with3((checker) => checker.finallyAt('b', 3)),
    null,
  );
  t.equal(
    with3((checker) => checker.finallyAt('b', 2)),
    present,
  );
  t.equal(
    with3((checker) => checker.read('b', 3, 3, 3)),
    null,
  );
  t.equal(
    with3((checker) => checker.read('b', 3, 2, 3)),
    'linearizable reads',
    'it lacks what was acknowledged',
  );
  t.equal(
    with3((checker) => checker.read('b', 3, 3, 2)),
    'linearizable reads',
    'it is not applied',
  );
  t.equal(
    with3((checker) => checker.fresh('b', 150, 2, 2)),
    null,
  );
  t.equal(
    with3((checker) => checker.fresh('b', 200, 2, 2)),
    null,
    'not acknowledged before',
  );
  t.equal(
    with3((checker) => checker.fresh('b', 201, 2, 2)),
    'freshness',
  );
  t.equal(
    with3((checker) => checker.fresh('b', 150, 2, 1)),
    'freshness',
    'it is not applied',
  );
});

t.test('exactly once', async (t) => {
  const run = (use: (checker: ExactlyOnce) => void): string | null =>
    verdictOf((verdict) => use(new ExactlyOnce(verdict)));
  const twice = (index: number): string | null =>
    run((checker) => {
      checker.executed('a', 1, 5);
      checker.executed('b', 1, index);
    });
  t.equal(twice(5), null);
  t.equal(twice(6), 'exactly once');
  t.equal(
    run((checker) => {
      checker.executed('a', 1, 5);
      checker.notTaken(1);
    }),
    'not taken means never',
  );
  t.equal(
    run((checker) => {
      checker.notTaken(1);
      checker.executed('a', 1, 5);
    }),
    'not taken means never',
  );
});

t.test('linearizable history', async (t) => {
  type Short = readonly ['r' | 'w', number, number, number];
  const history = (...operations: readonly Short[]): string | null =>
    verdictOf((verdict) => {
      const full = operations.map(
        ([kind, value, invokedMs, respondedMs]): RegisterOperation => ({
          register: 1,
          kind: kind === 'r' ? 'read' : 'write',
          value,
          invokedMs,
          respondedMs,
        }),
      );
      checkRegisters(full, verdict);
    });
  const bad = 'linearizable history';
  const never = Number.POSITIVE_INFINITY;
  t.equal(history(['w', 1, 0, 1], ['r', 1, 2, 3], ['w', 2, 4, 5], ['r', 2, 6, 7]), null);
  t.equal(history(['r', 0, 0, 1], ['w', 1, 2, 3]), null, 'the value that was there at first');
  t.equal(history(['w', 1, 0, 1], ['r', 0, 2, 3]), bad, 'a stale read');
  t.equal(history(['w', 1, 0, 1], ['w', 2, 2, 3], ['r', 1, 4, 5]), bad, 'a write is lost');
  t.equal(history(['w', 1, 0, 1], ['w', 2, 0, 5], ['r', 2, 1.5, 2], ['r', 1, 3, 4]), bad, 'and comes back');
  t.equal(history(['w', 1, 0, 9], ['w', 2, 0, 9], ['r', 2, 1, 2], ['r', 1, 3, 4]), null, 'both at once');
  t.equal(history(['r', 5, 0, 1]), bad, 'read from nowhere');
  t.equal(history(['r', 5, 0, 1], ['w', 5, 2, 3]), bad, 'read before it was written');
  t.equal(
    history(['w', 1, 0, 1], ['w', 2, 0, never], ['r', 1, 2, 3]),
    null,
    'a write that may not have happened',
  );
  t.equal(history(['w', 2, 0, never], ['w', 1, 1, 2], ['r', 2, 3, 4]), null, 'or happens late');
  t.equal(
    history(['w', 2, 0, never], ['w', 1, 1, 2], ['r', 2, 3, 4], ['r', 1, 5, 6]),
    bad,
    'but not before and after another',
  );
  t.equal(
    history(['w', 1, 0, 1], ['r', 1, 8, 9], ['w', 2, 3, 4]),
    bad,
    'a write nobody saw while another value was seen before and after',
  );
});

t.test('the first violation is kept', async (t) => {
  const verdict = new Verdict();
  verdict.broken('one', 'first');
  verdict.broken('two', 'second');
  t.equal(verdict.violation?.checker, 'one');
});
