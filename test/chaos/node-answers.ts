/** A change to a key as an operator saw it. */
export interface AdminChange {
  readonly key: string;
  readonly kind: 'enable' | 'disable';
  readonly invokedMs: number;
  /** `null`: no answer came; it may have been made at any time since. */
  readonly endedMs: number | null;
  /** The node that said that all its serving processes act on it; `null` when none did. */
  readonly confirmedBy: string | null;
}

/** What one node said to a good request for a key. */
export interface NodeAnswer {
  readonly node: string;
  readonly key: string;
  readonly sentMs: number;
  readonly endedMs: number;
  readonly status: number;
  readonly error: string | null;
}

/**
 * Answers that contradict what the node had confirmed before: served though disabled, refused though enabled, or an
 * answer that no state of the key explains. A change that overlaps the answer, or the confirmed change, excuses either.
 */
export function nodeAnswerProblems(
  changes: readonly AdminChange[],
  answers: readonly NodeAnswer[],
): string[] {
  const problems: string[] = [];
  for (const answer of answers) {
    const { node, key, status, error, sentMs } = answer;
    if (status === 503) continue;
    const disabled = status === 400 && error === 'InvalidStateException';
    if (status !== 200 && !disabled) {
      problems.push(`${node} answered ${status} ${error} to a good request for ${key}`);
      continue;
    }
    const opposite = disabled ? 'enable' : 'disable';
    const confirmed = changes.filter(
      (change) =>
        change.key === key &&
        change.kind === opposite &&
        change.confirmedBy === node &&
        change.endedMs !== null &&
        change.endedMs <= sentMs,
    );
    const contradicted = confirmed.find((change) => !mayBeUndone(change, changes, answer));
    if (contradicted !== undefined) {
      problems.push(
        `${node} ${disabled ? 'refused' : 'served'} ${key} at ${sentMs}, after it had confirmed the ${opposite} of ${contradicted.invokedMs}`,
      );
    }
  }
  return problems;
}

const mayBeUndone = (confirmed: AdminChange, changes: readonly AdminChange[], answer: NodeAnswer): boolean =>
  changes.some(
    ({ key, kind, invokedMs, endedMs }) =>
      key === confirmed.key &&
      kind !== confirmed.kind &&
      invokedMs <= answer.endedMs &&
      (endedMs === null || endedMs >= confirmed.invokedMs),
  );
