/** Insertions, deletions, substitutions and exchanges of neighbours that turn `left` into `right`. */
function editDistance(left: string, right: string): number {
  let beforeLast: number[] = [];
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 0; i < left.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < right.length; j++) {
      const substituted = (row[j] ?? 0) + (left[i] === right[j] ? 0 : 1);
      const exchanged =
        i > 0 && j > 0 && left[i] === right[j - 1] && left[i - 1] === right[j]
          ? (beforeLast[j - 1] ?? 0) + 1
          : Number.POSITIVE_INFINITY;
      next.push(Math.min(substituted, exchanged, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    beforeLast = row;
    row = next;
  }
  return row[right.length] ?? 0;
}

/** The candidate that `name` was most likely meant to be; `null` when none resembles it. */
export function nearestName(name: string, candidates: readonly string[]): string | null {
  const plain = (text: string): string => text.toLowerCase().replaceAll('-', '_');
  let best: { candidate: string; distance: number } | null = null;
  for (const candidate of candidates) {
    const distance = editDistance(plain(name), plain(candidate));
    if (distance * 2 <= candidate.length && (best === null || distance < best.distance)) {
      best = { candidate, distance };
    }
  }
  return best?.candidate ?? null;
}
