import { invariant } from '../base/guards.js';

/** How far a loop is, and why it does no more than it does. */
export class LoopStage {
  #stage: 'new' | 'running' | 'frozen' | 'stopped' = 'new';
  #halted: string | null = null;

  get running(): boolean {
    return this.#stage === 'running';
  }

  /** Why this replica must not be relied on any more; `null` while it may be. */
  get halted(): string | null {
    return this.#halted;
  }

  /** Why nothing can be proposed; `null` when it can be. */
  closedReason(): string | null {
    switch (this.#stage) {
      case 'new':
        return 'this node is starting';
      case 'running':
        return null;
      case 'frozen':
        return this.#halted ?? 'this node has halted';
      case 'stopped':
        return 'this node is stopping';
    }
  }

  start(): void {
    invariant(this.#stage === 'new', 'a loop is started once');
    this.#stage = 'running';
  }

  /** False when it had halted before: the first reason stays. */
  halt(reason: string): boolean {
    const first = this.#halted === null;
    this.#halted ??= reason;
    return first;
  }

  /** Nothing is done any more. False when that was so before. */
  freeze(): boolean {
    if (this.#stage !== 'running') return false;
    this.#stage = 'frozen';
    return true;
  }

  /** False when it had stopped before. */
  stop(): boolean {
    if (this.#stage === 'stopped') return false;
    this.#stage = 'stopped';
    return true;
  }
}
