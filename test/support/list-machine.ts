import { createHash } from 'node:crypto';
import type { StateMachine } from '../../src/replication/ordered-log.js';

interface Members {
  readonly voters: readonly string[];
  readonly learners: readonly string[];
}

const membersPrefix = 'members:';

/** A command by which a `ListMachine` learns who the members are. It is not one of those that it lists. */
export const membersCommand = (members: Members): Buffer =>
  Buffer.from(`${membersPrefix}${JSON.stringify(members)}`, 'latin1');

/** A state machine that remembers every command as it came. Its result is how many it has. */
export class ListMachine implements StateMachine<number> {
  commands: Buffer[] = [];
  appliedIndex = 0;
  #hash = '';
  #members: Members | null = null;

  apply(index: number, command: Uint8Array): number {
    this.skip(index);
    this.#take(Buffer.from(command));
    return this.commands.length;
  }

  skip(index: number): void {
    if (index !== this.appliedIndex + 1) throw new Error(`index ${index} after ${this.appliedIndex}`);
    this.appliedIndex = index;
  }

  #take(command: Buffer): void {
    const text = command.toString('latin1');
    if (text.startsWith(membersPrefix)) this.#members = JSON.parse(text.slice(membersPrefix.length));
    else this.commands.push(command);
    this.#hash = '';
  }

  snapshot(): Iterable<Uint8Array> {
    const members = this.#members === null ? [] : [membersCommand(this.#members)];
    return [...this.commands, ...members];
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    this.commands = [];
    this.#members = null;
    for (const record of records) this.#take(Buffer.from(record));
    if (this.commands.length > index) throw new Error(`${this.commands.length} commands as of ${index}`);
    this.appliedIndex = index;
  }

  stateHash(): string {
    if (this.#hash === '') {
      const hash = createHash('sha256');
      for (const record of this.snapshot()) hash.update(`${record.byteLength}:`).update(record);
      this.#hash = hash.digest('hex');
    }
    return this.#hash;
  }

  membership(): Members | null {
    return this.#members;
  }

  texts(): string[] {
    return this.commands.map((command) => command.toString('latin1'));
  }
}
