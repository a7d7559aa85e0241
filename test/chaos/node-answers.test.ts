import t from 'tap';
import { type AdminChange, type NodeAnswer, nodeAnswerProblems } from './node-answers.js';

const change = (
  kind: AdminChange['kind'],
  invokedMs: number,
  endedMs: number | null,
  confirmedBy: string | null = 'a',
): AdminChange => ({ key: 'k', kind, invokedMs, endedMs, confirmedBy });

const answer = (sentMs: number, status: number, error: string | null = null, node = 'a'): NodeAnswer => ({
  node,
  key: 'k',
  sentMs,
  endedMs: sentMs + 5,
  status,
  error,
});

const refused = (sentMs: number): NodeAnswer => answer(sentMs, 400, 'InvalidStateException');

t.test('what a node may answer', async (t) => {
  const fine = (what: string, changes: readonly AdminChange[], answers: readonly NodeAnswer[]): void => {
    t.strictSame(nodeAnswerProblems(changes, answers), [], what);
  };
  fine('as confirmed', [change('disable', 0, 10)], [refused(20)]);
  fine('before it was confirmed', [change('disable', 0, 10)], [answer(5, 200)]);
  fine('what another node confirmed', [change('disable', 0, 10, 'b')], [answer(20, 200)]);
  fine('what was enabled since', [change('disable', 0, 10), change('enable', 11, 15)], [answer(20, 200)]);
  fine(
    'what is being enabled',
    [change('disable', 0, 10), change('enable', 19, null, null)],
    [answer(20, 200)],
  );
  fine('that it cannot say', [change('disable', 0, 10)], [answer(20, 503, 'DependencyTimeoutException')]);
});

t.test('what a node must not answer', async (t) => {
  const wrong = (changes: readonly AdminChange[], one: NodeAnswer, problem: RegExp): void => {
    t.match(nodeAnswerProblems(changes, [one]), [problem]);
  };
  wrong([change('disable', 0, 10)], answer(20, 200), /a served k at 20, after it had confirmed the disable/);
  wrong([change('enable', 0, 10)], refused(20), /a refused k/);
  wrong([change('disable', 0, 10), change('enable', 30, 40)], answer(20, 200), /a served k/);
  wrong([], answer(20, 404, 'KeyNotFoundException'), /a answered 404 KeyNotFoundException/);
  wrong([], answer(20, 400, 'ValidationException'), /a answered 400/);
});
