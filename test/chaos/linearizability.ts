/** What a key is, as one change or look saw it. `revision` is the log index of the change that made it so. */
export interface KeyState {
  readonly status: 'ENABLED' | 'DISABLED';
  /** `null`: made so by a change whose answer was lost. */
  readonly revision: number | null;
}

/** One operation of a client on a key, from when it was asked for to when its answer came. */
export interface KeyOperation {
  readonly kind: 'enable' | 'disable' | 'read';
  readonly invokedMs: number;
  /** `null`: no answer came. It may have been carried out at any time since, or never. */
  readonly endedMs: number | null;
  /** What the answer said; `null` without one. */
  readonly seen: { readonly status: KeyState['status']; readonly revision: number } | null;
}

/**
 * Whether there is an order of a key's operations, each at a moment between its question and its answer, in which every
 * answer is right (Herlihy and Wing, 1990). Depth first over the operations that may come next, as Wing and Gong do,
 * with what was tried remembered (Lowe).
 *
 * @returns `null` when there is, else a sentence about where it gets stuck.
 */
export function linearizabilityProblem(
  initial: KeyState,
  operations: readonly KeyOperation[],
): string | null {
  const sorted = [...operations].sort((left, right) => left.invokedMs - right.invokedMs);
  const answered = sorted.filter(({ endedMs }) => endedMs !== null).length;
  const tried = new Set<string>();
  const done = sorted.map(() => false);
  const order: number[] = [];
  let furthest: readonly number[] = [];

  const search = (state: KeyState, answeredLeft: number): boolean => {
    if (order.length > furthest.length) furthest = [...order];
    if (answeredLeft === 0) return true;
    const memo = `${bits(done)} ${state.status} ${state.revision}`;
    if (tried.has(memo)) return false;
    tried.add(memo);
    // What was asked for after another's answer cannot come before it.
    let firstAnswerMs = Number.POSITIVE_INFINITY;
    sorted.forEach((operation, place) => {
      if (done[place] !== true && operation.endedMs !== null)
        firstAnswerMs = Math.min(firstAnswerMs, operation.endedMs);
    });
    for (const [place, operation] of sorted.entries()) {
      if (operation.invokedMs > firstAnswerMs) break;
      if (done[place] === true) continue;
      const next = outcome(state, operation);
      if (next === null) continue;
      done[place] = true;
      order.push(place);
      if (search(next, answeredLeft - (operation.endedMs === null ? 0 : 1))) return true;
      order.pop();
      done[place] = false;
    }
    return false;
  };

  if (search(initial, answered)) return null;
  const placed = new Set(furthest);
  const stuck = sorted.filter((_, place) => !placed.has(place)).slice(0, 4);
  return `no order explains the answers: ${furthest.length} of ${sorted.length} operations can be placed; then come ${JSON.stringify(stuck)}`;
}

const bits = (flags: readonly boolean[]): string => {
  // Almost all are done up to a point, and not done after it.
  const first = flags.indexOf(false);
  return first < 0
    ? 'all'
    : `${first}:${flags.slice(first).lastIndexOf(true)}:${flags.slice(first).map(Number).join('').replace(/0+$/, '')}`;
};

/** The state after `operation` was carried out in `state`; `null` when its answer was another then. */
function outcome(state: KeyState, { kind, seen }: KeyOperation): KeyState | null {
  if (kind === 'read') {
    if (seen === null) return state;
    return seen.status === state.status && mayBe(state.revision, seen.revision) ? seen : null;
  }
  const status = kind === 'enable' ? 'ENABLED' : 'DISABLED';
  if (kind === 'enable' && status === state.status) {
    // Granting what is granted changes nothing: the answer names the change that made it so. A denial is always one.
    if (seen === null) return state;
    return mayBe(state.revision, seen.revision) ? { status, revision: seen.revision } : null;
  }
  if (seen === null) return { status, revision: null };
  return state.revision === null || seen.revision > state.revision
    ? { status, revision: seen.revision }
    : null;
}

const mayBe = (revision: number | null, seen: number): boolean => revision === null || revision === seen;
