import type { Entry, HardState } from '../raft/types.js';
import { itemOverheadBytesMax, type LogItem } from './log-items.js';

/** Of the entries that go into one record; one longer entry goes alone. */
const recordEntriesBytesMax = 1024 * 1024;

/** In runs that fit into a record each. */
export function partsOf(entries: readonly Entry[]): Entry[][] {
  const parts: Entry[][] = [];
  let bytes = 0;
  for (const entry of entries) {
    const part = parts.at(-1);
    const entryBytes = entry.data.byteLength + itemOverheadBytesMax;
    bytes += entryBytes;
    if (part !== undefined && bytes <= recordEntriesBytesMax) {
      part.push(entry);
    } else {
      parts.push([entry]);
      bytes = entryBytes;
    }
  }
  return parts;
}

export const itemsOf = (entries: readonly Entry[], hardState: HardState | null): LogItem[] => [
  ...entries.map((entry) => ({ kind: 'entry', entry }) as const),
  ...(hardState === null ? [] : [{ kind: 'hardState', hardState } as const]),
];
