import { KeyState } from '../../src/keystate/key-state.js';
import { mintRequestId } from '../../src/keystate/request-id.js';
import type { Command, CommandEnvelope, CommandResult } from '../../src/keystate/types.js';

type Body<C> = C extends Command ? Omit<C, keyof CommandEnvelope> : never;
export type CommandBody = Body<Command>;

export const startMs = Date.UTC(2026, 0, 1);
export const hourMs = 3_600_000;

/** The `number`-th id of its millisecond. */
export const requestIdAt = (atMs: number, number = 0): string =>
  mintRequestId(atMs, Buffer.from(number.toString(16).padStart(20, '0'), 'hex'));

/** A cluster of format 2 with its founder `m-a` on `node-a`, as of index 1. Requests get fresh ids. */
export class FoundedCluster {
  readonly state: KeyState;
  #requests = 0;
  nowMs = startMs;

  constructor(state = new KeyState()) {
    this.state = state;
    this.apply({
      type: 'cluster.init',
      clusterId: 'c-1',
      nodeName: 'node-a',
      memberId: 'm-a',
      address: 'a.example:7946',
      format: 2,
    });
  }

  /** @param envelope overrides what is put in. */
  apply(body: CommandBody, envelope: Partial<CommandEnvelope> = {}): CommandResult {
    this.#requests += 1;
    const atMs = envelope.atMs ?? this.nowMs;
    const requestId = requestIdAt(atMs, this.#requests);
    const command = { requestId, atMs, by: 'uid=0', ...envelope, ...body } as Command;
    return this.state.apply(this.state.appliedIndex + 1, command);
  }

  /** @throws Error when it is refused. @returns the revision. */
  done(body: CommandBody, envelope: Partial<CommandEnvelope> = {}): number {
    const result = this.apply(body, envelope);
    if (!result.ok) throw new Error(`${body.type}: ${result.error.message}`);
    return result.revision;
  }
}
