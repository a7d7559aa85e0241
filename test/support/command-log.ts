import { encodeCommand } from '../../src/keystate/command-codec.js';
import type { KeyState } from '../../src/keystate/key-state.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { Command, CommandResult } from '../../src/keystate/types.js';
import type { Entry } from '../../src/raft/types.js';
import type { Identity } from '../../src/replication/identity-file.js';
import { type CommandBody, requestIdAt, startMs } from './founded-cluster.js';

const joinSecretDigest = 'ab'.repeat(32);

/** A log of commands as a member of cluster `c-1` has it, and the state that they come to. */
export class CommandLog {
  readonly machine = new KeyStateMachine();
  readonly entries: Entry[] = [];
  term = 1;
  #requests = 0;

  get state(): KeyState {
    return this.machine.state;
  }

  get lastIndex(): number {
    return this.entries.length;
  }

  apply(body: CommandBody): CommandResult {
    this.#requests += 1;
    const requestId = requestIdAt(startMs, this.#requests);
    const command = { requestId, atMs: startMs, by: 'uid=0', ...body } as Command;
    const index = this.lastIndex + 1;
    const data = encodeCommand(command);
    this.entries.push({ index, term: this.term, kind: 'command', data });
    return this.machine.apply(index, data);
  }

  /** @throws Error when it is refused. @returns the index. */
  add(body: CommandBody): number {
    const result = this.apply(body);
    if (!result.ok) throw new Error(`${body.type}: ${result.error.message}`);
    return this.lastIndex;
  }

  /** What a leader begins its term with. */
  startTerm(): void {
    this.term += 1;
    const index = this.lastIndex + 1;
    this.entries.push({ index, term: this.term, kind: 'noop', data: new Uint8Array(0) });
    this.machine.skip(index);
  }

  /** Cluster `c-1` of `names`, all voters; their ids are `m-NAME`. */
  found(names: readonly string[]): void {
    const [founder = '', ...others] = names;
    const address = (name: string): string => `${name}.example:7443`;
    this.add({
      type: 'cluster.init',
      clusterId: 'c-1',
      nodeName: founder,
      memberId: `m-${founder}`,
      address: address(founder),
      format: 2,
    });
    for (const name of others) {
      const member = { memberId: `m-${name}`, name, address: address(name) };
      this.add({ type: 'member.add', ...member, joinSecretDigest, expiresAtMs: startMs + 1_000 });
      this.add({
        type: 'member.join',
        memberId: member.memberId,
        joinSecretDigest,
        address: member.address,
      });
      this.add({ type: 'member.promote', memberId: member.memberId });
    }
  }

  keyStore(name: string): number {
    const uriPathPrefix = name;
    return this.add({
      type: 'keystore.create',
      name,
      uriPathPrefix,
      regions: ['eu-central-1'],
      adopted: false,
    });
  }

  key(keyStore: string, externalKeyId: string): number {
    const objectId = Buffer.from(`${keyStore}/${externalKeyId}`).toString('hex');
    return this.add({
      type: 'key.create',
      keyStore,
      externalKeyId,
      objectId,
      witness: null,
      checkValue: null,
      usage: [],
      description: '',
    });
  }

  credential(keyStore: string, accessKeyId: string): number {
    return this.add({ type: 'credential.create', keyStore, accessKeyId, sealedSecret: sealedSecret() });
  }
}

const sealedSecret = () => ({
  nonce: new Uint8Array(12),
  ciphertext: new Uint8Array(43),
  tag: new Uint8Array(16),
});

export const identityOf = (name: string): Identity => ({
  nodeName: name,
  clusterId: 'c-1',
  memberId: `m-${name}`,
  role: 'joiner',
  join: { joinSecret: null, peers: [] },
});
