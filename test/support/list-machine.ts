import type { StateMachine } from '../../src/replication/ordered-log.js';

/** A state machine that remembers every command as it came. Its result is how many it has. */
export class ListMachine implements StateMachine<number> {
  commands: Buffer[] = [];

  apply(index: number, command: Uint8Array): number {
    if (index !== this.commands.length + 1) throw new Error(`index ${index} after ${this.commands.length}`);
    this.commands.push(Buffer.from(command));
    return this.commands.length;
  }

  snapshot(): Iterable<Uint8Array> {
    return [...this.commands];
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    this.commands = [...records].map((record) => Buffer.from(record));
    if (this.commands.length !== index) throw new Error(`${this.commands.length} commands as of ${index}`);
  }

  texts(): string[] {
    return this.commands.map((command) => command.toString('latin1'));
  }
}
