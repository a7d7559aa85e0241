import { err, ok, type Result } from '../base/result.js';
import type { Entry, HardState, LogPosition } from '../raft/types.js';
import { damaged } from './log-damage.js';
import type { LogItem } from './log-items.js';
import type { ReadSegment } from './segment-file.js';

/** What the items of a log, in order, come to. */
export interface ReplayedLog {
  /** Of the first entry; one more than the last index when there is none. */
  readonly firstIndex: number;
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
  /** Of the last snapshot of our own that was made; 0 before the first. */
  readonly markerIndex: number;
  /** Of the last snapshot from another member that took the log's place. */
  readonly installed: LogPosition | null;
}

class Replay implements ReplayedLog {
  firstIndex: number;
  entries: Entry[] = [];
  hardState: HardState = { term: 0, votedFor: null, commitIndex: 0 };
  markerIndex = 0;
  installed: LogPosition | null = null;

  constructor(firstIndex: number) {
    this.firstIndex = firstIndex;
  }

  get nextIndex(): number {
    return this.firstIndex + this.entries.length;
  }

  /** @returns why no log of ours has this item here; `null` when one may. */
  take(item: LogItem): string | null {
    switch (item.kind) {
      case 'entry':
        return this.#entry(item.entry);
      case 'hardState':
        return this.#hardState(item.hardState);
      case 'snapshotMarker':
        this.markerIndex = item.index;
        return null;
      case 'installedSnapshot':
        return this.#installed({ index: item.index, term: item.term });
      default:
        return `a ${item.kind} is among the entries`;
    }
  }

  #entry(entry: Entry): string | null {
    const { index } = entry;
    if (index > this.nextIndex || index <= this.hardState.commitIndex) {
      return `entry ${index} is where entry ${this.nextIndex} should be`;
    }
    // A suffix may have been replaced from before the first segment on, when those before it were compacted away since:
    // the log begins with what replaced it. Nothing is missing in between, or no snapshot reaches up to it.
    this.firstIndex = Math.min(this.firstIndex, index);
    this.entries.length = index - this.firstIndex;
    this.entries.push(entry);
    return null;
  }

  #hardState(hardState: HardState): string | null {
    const { term, commitIndex } = this.hardState;
    if (
      hardState.term < term ||
      hardState.commitIndex < commitIndex ||
      hardState.commitIndex >= this.nextIndex
    ) {
      return `term or commit index go back, or beyond entry ${this.nextIndex - 1}`;
    }
    this.hardState = hardState;
    return null;
  }

  #installed(position: LogPosition): string | null {
    if (position.index <= this.hardState.commitIndex) {
      return `a snapshot as of ${position.index} replaces the log, which is committed up to ${this.hardState.commitIndex}`;
    }
    this.installed = position;
    this.firstIndex = position.index + 1;
    this.entries = [];
    return null;
  }
}

/** What the items of all segments, oldest first, come to. */
export function replay(segments: readonly ReadSegment[]): Result<ReplayedLog, string> {
  const state = new Replay(segments[0]?.firstIndex ?? 1);
  for (const { path, items, firstIndex } of segments) {
    if (firstIndex > state.nextIndex) {
      return err(damaged(path, 0, `entries before index ${firstIndex} are missing`));
    }
    for (const item of items) {
      const problem = state.take(item);
      if (problem !== null) return err(damaged(path, 0, problem));
    }
  }
  return ok(state);
}
