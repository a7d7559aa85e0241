export interface Violation {
  /** Which promise was broken. */
  readonly checker: string;
  readonly detail: string;
}

/** Collects what checkers find. They never throw: the code under test might catch it. */
export class Verdict {
  #first: Violation | null = null;

  /** The first; later ones are mostly its consequences. */
  get violation(): Violation | null {
    return this.#first;
  }

  broken(checker: string, detail: string): void {
    this.#first ??= { checker, detail };
  }
}
