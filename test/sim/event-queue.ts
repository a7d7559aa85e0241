/** Something that happens at a moment of simulated time. */
export interface SimEvent {
  readonly atMs: number;
  /** Of two at the same moment, the one scheduled first comes first. */
  readonly sequence: number;
  /** For the trace. */
  readonly kind: string;
  /** Slot of the node that it happens at; -1 for the world's own. */
  readonly slot: number;
  readonly run: () => void;
}

const before = (left: SimEvent, right: SimEvent): boolean =>
  left.atMs < right.atMs || (left.atMs === right.atMs && left.sequence < right.sequence);

/** Events by time: a binary heap. */
export class EventQueue {
  readonly #heap: SimEvent[] = [];
  #sequence = 0;

  get length(): number {
    return this.#heap.length;
  }

  push(atMs: number, kind: string, slot: number, run: () => void): void {
    this.#sequence += 1;
    const event: SimEvent = { atMs, sequence: this.#sequence, kind, slot, run };
    const heap = this.#heap;
    let place = heap.length;
    heap.push(event);
    while (place > 0) {
      const parentPlace = (place - 1) >> 1;
      const parent = heap[parentPlace];
      if (parent === undefined || before(parent, event)) break;
      heap[place] = parent;
      place = parentPlace;
    }
    heap[place] = event;
  }

  /** The earliest, removed; `null` when there is none. */
  pop(): SimEvent | null {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined) return null;
    const length = heap.length;
    if (length === 0) return top;
    let place = 0;
    for (;;) {
      let childPlace = 2 * place + 1;
      let child = heap[childPlace];
      if (child === undefined) break;
      const right = heap[childPlace + 1];
      if (right !== undefined && before(right, child)) {
        childPlace += 1;
        child = right;
      }
      if (before(last, child)) break;
      heap[place] = child;
      place = childPlace;
    }
    heap[place] = last;
    return top;
  }
}
