import { createHash } from 'node:crypto';
import type { StateMachine } from '../../src/replication/ordered-log.js';
import type { Timing } from '../../src/replication/timing.js';

type Members = NonNullable<ReturnType<StateMachine<string>['membership']>>;

interface Header {
  readonly index: number;
  readonly members: Members | null;
  readonly times: Timing | null;
}

/** A command of the toy state machine; `padding` makes it long. */
export function setCommand(name: string, value: string, padding = 0): Uint8Array {
  return Buffer.from(`set ${name} ${value}${'.'.repeat(padding)}`);
}

export function membersCommand(voters: readonly string[], learners: readonly string[] = []): Uint8Array {
  return Buffer.from(`members ${voters.join(',')} ${learners.join(',')}`);
}

export function timingCommand(timing: Timing): Uint8Array {
  return Buffer.from(`timing ${JSON.stringify(timing)}`);
}

/** Can't be applied by any version. */
export const unknownCommand: Uint8Array = Buffer.from('unknown');

/** Names with values, and who the members are. The result of a command is its text and index. */
export class LoopMachine implements StateMachine<string> {
  readonly values = new Map<string, string>();
  /** Texts of the commands applied since the start or the last restore. */
  readonly applied: string[] = [];
  index = 0;
  members: Members | null = null;
  times: Timing | null = null;

  apply(index: number, command: Uint8Array): string {
    const text = Buffer.from(command).toString();
    const [verb = '', first = '', second = ''] = text.split(' ');
    if (verb === 'set') this.values.set(first, second);
    else if (verb === 'members') this.members = { voters: listed(first), learners: listed(second) };
    else if (verb === 'timing') this.times = JSON.parse(first) as Timing;
    else throw new Error(`no such command: ${verb}`);
    this.#follow(index);
    this.applied.push(text);
    return `${text} at ${index}`;
  }

  skip(index: number): void {
    this.#follow(index);
  }

  snapshot(): Iterable<Uint8Array> {
    const header: Header = { index: this.index, members: this.members, times: this.times };
    return [header, ...this.values].map((record) => Buffer.from(JSON.stringify(record)));
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    const [header, ...values] = [...records].map((record) => JSON.parse(Buffer.from(record).toString()));
    const { index: of, members, times } = header as Header;
    if (of !== index) throw new Error(`a snapshot as of ${of}, not ${index}`);
    this.index = index;
    this.members = members;
    this.times = times;
    this.applied.length = 0;
    this.values.clear();
    for (const [name, value] of values as [string, string][]) this.values.set(name, value);
  }

  stateHash(): string {
    return createHash('sha256')
      .update(JSON.stringify([this.index, this.members, this.times, ...this.values]))
      .digest('hex');
  }

  membership(): Members | null {
    return this.members;
  }

  timing(): Timing | null {
    return this.times;
  }

  #follow(index: number): void {
    if (index !== this.index + 1) throw new Error(`index ${index} after ${this.index}`);
    this.index = index;
  }
}

function listed(text: string): string[] {
  return text === '' ? [] : text.split(',');
}
