import { createHash } from 'node:crypto';
import { commandFormatMax } from '../../src/keystate/command-format.js';
import { KeyState } from '../../src/keystate/key-state.js';
import { mintRequestId } from '../../src/keystate/request-id.js';
import type { Command } from '../../src/keystate/types.js';
import type { BareCommand } from './pipeline-fixture.js';

/** Key state of a cluster whose members are named; their ids are `id-NAME`. */
export class ClusterState {
  readonly keyState = new KeyState();

  apply(command: BareCommand): void {
    const index = this.keyState.appliedIndex + 1;
    const requestId = mintRequestId(index, new Uint8Array(10));
    // The spread of a union is no union to the compiler.
    const result = this.keyState.apply(index, { ...command, requestId, atMs: index, by: 'test' } as Command);
    if (!result.ok) throw new Error(result.error.message);
  }

  invite(name: string): void {
    this.apply({
      type: 'member.add',
      memberId: `id-${name}`,
      name,
      address: `${name}:7443`,
      joinSecretDigest: digestOf(name),
      expiresAtMs: 1_000_000,
    });
  }

  join(name: string): void {
    const joinSecretDigest = digestOf(name);
    this.apply({ type: 'member.join', memberId: `id-${name}`, joinSecretDigest, address: `${name}:7443` });
  }

  /** Its node says where it listens now. */
  move(name: string, address: string): void {
    this.apply({ type: 'member.update', memberId: `id-${name}`, address });
  }

  promote(name: string): void {
    this.apply({ type: 'member.promote', memberId: `id-${name}` });
  }

  remove(name: string): void {
    this.apply({ type: 'member.remove', memberId: `id-${name}` });
  }
}

const digestOf = (name: string): string => createHash('sha256').update(name).digest('hex');

/** @param voters the first founds the cluster; with none, there is none yet. */
export function clusterState(voters: readonly string[]): ClusterState {
  const state = new ClusterState();
  const [founder, ...others] = voters;
  if (founder === undefined) return state;
  state.apply({
    type: 'cluster.init',
    clusterId: 'cluster-1',
    nodeName: founder,
    memberId: `id-${founder}`,
    address: `${founder}:7443`,
    format: commandFormatMax,
  });
  for (const name of others) {
    state.invite(name);
    state.join(name);
    state.promote(name);
  }
  return state;
}
