import { invariant } from '../../src/base/guards.js';
import type { Membership } from '../../src/raft/types.js';
import type { StateMachine } from '../../src/replication/ordered-log.js';

export const registersMax = 16;
/** Requests remembered; older ones are refused, never executed (replication.md 12). */
const requestsMax = 512;

export const membershipChanges = ['addLearner', 'promote', 'remove', 'found'] as const;
export type MembershipChange = (typeof membershipChanges)[number];

/** `deny` is never refused for what it saw; `grant` is, when the register was written since. */
export type RegisterCommand =
  | { readonly kind: 'deny'; readonly request: number; readonly register: number }
  | {
      readonly kind: 'grant';
      readonly request: number;
      readonly register: number;
      /** The request whose value the client saw. */
      readonly seen: number;
    }
  | {
      readonly kind: 'membership';
      readonly request: number;
      readonly change: MembershipChange;
      readonly member: string;
      /** Membership revision that the operator saw. */
      readonly seen: number;
    }
  | {
      /** Behind the log of the survivor of a lost quorum. */
      readonly kind: 'recover';
      readonly request: number;
      readonly survivor: string;
      /** Not known as members in its log. */
      readonly strangers: readonly string[];
      /** Grants that may never have been committed: requests, by register. */
      readonly pending: readonly RegisterGrant[];
    };

type RecoverCommand = Extract<RegisterCommand, { kind: 'recover' }>;

export interface RegisterGrant {
  readonly register: number;
  readonly request: number;
}

export interface RegisterResult {
  readonly request: number;
  /** Of the execution, not of the repetition. */
  readonly index: number;
  readonly outcome: 'done' | 'conflict' | 'expired';
  /** Value of the register before; membership revision before. */
  readonly before: number;
  readonly repeated: boolean;
}

const commandBytes = { deny: 7, grant: 11 } as const;

/** @param paddingBytes so that records take more than one sector of a disk. */
export function encodeCommand(command: RegisterCommand, paddingBytes: number): Uint8Array {
  if (command.kind === 'membership') {
    const member = Buffer.from(command.member, 'utf8');
    const bytes = Buffer.alloc(11 + member.byteLength);
    bytes.writeUInt8(3, 0);
    bytes.writeUInt32BE(command.request, 1);
    bytes.writeUInt8(membershipChanges.indexOf(command.change), 5);
    bytes.writeUInt32BE(command.seen, 6);
    bytes.writeUInt8(member.byteLength, 10);
    bytes.set(member, 11);
    return bytes;
  }
  if (command.kind === 'recover') {
    const { request, ...rest } = command;
    const text = Buffer.from(JSON.stringify(rest), 'utf8');
    const bytes = Buffer.alloc(5 + text.byteLength);
    bytes.writeUInt8(4, 0);
    bytes.writeUInt32BE(request, 1);
    bytes.set(text, 5);
    return bytes;
  }
  const bytes = Buffer.alloc(commandBytes[command.kind] + paddingBytes, 0x5c);
  bytes.writeUInt8(command.kind === 'deny' ? 1 : 2, 0);
  bytes.writeUInt32BE(command.request, 1);
  bytes.writeUInt16BE(command.register, 5);
  if (command.kind === 'grant') bytes.writeUInt32BE(command.seen, 7);
  return bytes;
}

export function decodeCommand(data: Uint8Array): RegisterCommand {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const kind = bytes.readUInt8(0);
  const request = bytes.readUInt32BE(1);
  switch (kind) {
    case 1:
      return { kind: 'deny', request, register: bytes.readUInt16BE(5) };
    case 2:
      return { kind: 'grant', request, register: bytes.readUInt16BE(5), seen: bytes.readUInt32BE(7) };
    case 3: {
      const change = membershipChanges[bytes.readUInt8(5)];
      invariant(change !== undefined, 'no such membership change');
      const member = bytes.subarray(11, 11 + bytes.readUInt8(10)).toString('utf8');
      return { kind: 'membership', request, change, member, seen: bytes.readUInt32BE(6) };
    }
    case 4: {
      const rest = JSON.parse(bytes.subarray(5).toString('utf8')) as Omit<RecoverCommand, 'request'>;
      return { ...rest, request };
    }
    default:
      throw new Error(`no command of kind ${kind}`);
  }
}

interface Remembered {
  readonly index: number;
  readonly outcome: RegisterResult['outcome'];
  readonly before: number;
}

interface MembershipRecord {
  readonly membership: Membership | null;
  readonly leftBehind: readonly string[];
  readonly pending: readonly RegisterGrant[];
}

const outcomes = ['done', 'conflict', 'expired'] as const;

function mix(hash: number, value: number): number {
  let mixed = Math.imul(hash ^ value, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  return Math.imul(mixed, 0xc2b2ae35) ^ (mixed >>> 16);
}

const registerHash = (register: number, value: number, granted: boolean): number =>
  mix(mix(mix(1, register), value), granted ? 1 : 2);
const requestHash = (request: number, { index, outcome, before }: Remembered): number =>
  mix(mix(mix(mix(2, request), index), outcomes.indexOf(outcome)), before);

function textHash(text: string): number {
  let hash = 3;
  for (let i = 0; i < text.length; i += 1) hash = mix(hash, text.charCodeAt(i));
  return hash;
}

/** Called at each execution, with what was executed. */
export type Execution = (request: number, index: number) => void;

/**
 * A small stand-in for key state: registers that are denied and granted, members, and the requests executed so far. As
 * there, a grant that saw something else is refused, and a repeated request gets the answer it got.
 */
export class RegisterMachine implements StateMachine<RegisterResult> {
  readonly #onExecution: Execution;
  readonly #padding: Uint8Array;
  #appliedIndex = 0;
  #values = new Array<number>(registersMax).fill(0);
  #granted = new Array<boolean>(registersMax).fill(true);
  /** By request; oldest execution first. */
  #requests = new Map<number, Remembered>();
  /** Requests up to it may have been forgotten. */
  #forgotten = 0;
  #membership: Membership | null = null;
  #membershipRevision = 0;
  /** Members of the cluster that this one was recovered from. */
  #leftBehind: readonly string[] = [];
  /** Taken back by a recovery until somebody confirms them. */
  #pending: readonly RegisterGrant[] = [];
  /** Sum of the objects' hashes. */
  #hash = 0;

  /** @param snapshotPaddingBytes that snapshots are longer, so that they take several chunks. */
  constructor(onExecution: Execution, snapshotPaddingBytes = 0) {
    this.#onExecution = onExecution;
    this.#padding = new Uint8Array(snapshotPaddingBytes);
    for (let register = 0; register < registersMax; register += 1) {
      this.#hash = (this.#hash + registerHash(register, 0, true)) | 0;
    }
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  get membershipRevision(): number {
    return this.#membershipRevision;
  }

  get leftBehind(): readonly string[] {
    return this.#leftBehind;
  }

  get pending(): readonly RegisterGrant[] {
    return this.#pending;
  }

  /** The requests that are remembered, with the index at which each was executed. */
  *executed(): Iterable<{ readonly request: number; readonly index: number }> {
    for (const [request, { index }] of this.#requests) yield { request, index };
  }

  granted(register: number): boolean {
    return this.#granted[register] ?? true;
  }

  value(register: number): number {
    return this.#values[register] ?? 0;
  }

  apply(index: number, data: Uint8Array): RegisterResult {
    this.#appliedIndex = index;
    const command = decodeCommand(data);
    const { request } = command;
    const known = this.#requests.get(request);
    if (known !== undefined) return { request, ...known, repeated: true };
    if (request <= this.#forgotten) {
      return { request, index, outcome: 'expired', before: 0, repeated: false };
    }
    this.#onExecution(request, index);
    const result = this.#execute(index, command);
    this.#remember(request, result);
    return { request, ...result, repeated: false };
  }

  #execute(index: number, command: RegisterCommand): Remembered {
    switch (command.kind) {
      case 'membership':
        return this.#changeMembership(index, command);
      case 'recover':
        return this.#recover(index, command);
      case 'grant':
      case 'deny': {
        const { kind, register, request } = command;
        const before = this.value(register);
        if (kind === 'grant' && command.seen !== before) return { index, outcome: 'conflict', before };
        this.#set(register, request, kind === 'grant');
        return { index, outcome: 'done', before };
      }
    }
  }

  /** As key state does (`recoverCluster`): the survivor alone goes on, and what is pending is out of force. */
  #recover(index: number, { request, survivor, strangers, pending }: RecoverCommand): Remembered {
    const { voters, learners } = this.#membership ?? { voters: [], learners: [] };
    const left = new Set([...this.#leftBehind, ...voters, ...learners, ...strangers]);
    left.delete(survivor);
    this.#leftBehind = [...left];
    const taken = pending.filter((grant) => this.value(grant.register) === grant.request);
    for (const { register } of taken) this.#set(register, request, false);
    this.#pending = [...this.#pending, ...taken];
    const before = this.#membershipRevision;
    this.#setMembership({ voters: [survivor], learners: [] }, before + 1);
    return { index, outcome: 'done', before };
  }

  #set(register: number, value: number, granted: boolean): void {
    const before = this.value(register);
    this.#hash = (this.#hash - registerHash(register, before, this.#granted[register] ?? true)) | 0;
    this.#hash = (this.#hash + registerHash(register, value, granted)) | 0;
    this.#values[register] = value;
    this.#granted[register] = granted;
  }

  #changeMembership(index: number, command: Extract<RegisterCommand, { kind: 'membership' }>): Remembered {
    const before = this.#membershipRevision;
    const next = changedMembership(this.#membership, command.change, command.member);
    if (command.seen !== before || next === null) return { index, outcome: 'conflict', before };
    this.#setMembership(next, before + 1);
    return { index, outcome: 'done', before };
  }

  #setMembership(membership: Membership | null, revision: number): void {
    this.#hash = (this.#hash - this.#membershipHash()) | 0;
    this.#membership = membership;
    this.#membershipRevision = revision;
    this.#hash = (this.#hash + this.#membershipHash()) | 0;
  }

  #membershipHash(): number {
    if (this.#membership === null) return 0;
    const { voters, learners } = this.#membership;
    return mix(textHash(`${voters.join()};${learners.join()}`), this.#membershipRevision);
  }

  #remember(request: number, remembered: Remembered): void {
    this.#requests.set(request, remembered);
    this.#hash = (this.#hash + requestHash(request, remembered)) | 0;
    if (this.#requests.size <= requestsMax) return;
    for (const [oldest, result] of this.#requests) {
      this.#requests.delete(oldest);
      this.#hash = (this.#hash - requestHash(oldest, result)) | 0;
      if (oldest > this.#forgotten) this.#forgotten = oldest;
      break;
    }
  }

  /** For those that plant bugs. */
  protected forgetRequests(): void {
    for (const [request, result] of this.#requests)
      this.#hash = (this.#hash - requestHash(request, result)) | 0;
    this.#requests.clear();
  }

  skip(index: number): void {
    this.#appliedIndex = index;
  }

  snapshot(): Iterable<Uint8Array> {
    return [this.#numbers(), this.#requestRecord(), this.#membershipRecord(), this.#padding];
  }

  #numbers(): Uint8Array {
    const bytes = Buffer.alloc(12 + 5 * registersMax);
    bytes.writeUInt32BE(this.#appliedIndex, 0);
    bytes.writeUInt32BE(this.#forgotten, 4);
    bytes.writeUInt32BE(this.#membershipRevision, 8);
    for (let register = 0; register < registersMax; register += 1) {
      bytes.writeUInt32BE(this.value(register), 12 + 5 * register);
      bytes.writeUInt8(this.#granted[register] === true ? 1 : 0, 16 + 5 * register);
    }
    return bytes;
  }

  #requestRecord(): Uint8Array {
    const bytes = Buffer.alloc(13 * this.#requests.size);
    let offset = 0;
    for (const [request, { index, outcome, before }] of this.#requests) {
      bytes.writeUInt32BE(request, offset);
      bytes.writeUInt32BE(index, offset + 4);
      bytes.writeUInt8(outcomes.indexOf(outcome), offset + 8);
      bytes.writeUInt32BE(before, offset + 9);
      offset += 13;
    }
    return bytes;
  }

  #membershipRecord(): Uint8Array {
    const record: MembershipRecord = {
      membership: this.#membership,
      leftBehind: this.#leftBehind,
      pending: this.#pending,
    };
    return Buffer.from(JSON.stringify(record), 'utf8');
  }

  restore(index: number, records: Iterable<Uint8Array>): void {
    const [numbers, requests, membership] = [...records].map((record) =>
      Buffer.from(record.buffer, record.byteOffset, record.byteLength),
    );
    invariant(
      numbers !== undefined && requests !== undefined && membership !== undefined,
      'a snapshot has these records',
    );
    this.#appliedIndex = numbers.readUInt32BE(0);
    invariant(this.#appliedIndex === index, `a snapshot as of ${this.#appliedIndex}, not ${index}`);
    this.#forgotten = numbers.readUInt32BE(4);
    this.#hash = 0;
    this.#membership = null;
    const record = JSON.parse(membership.toString('utf8')) as MembershipRecord;
    this.#leftBehind = record.leftBehind;
    this.#pending = record.pending;
    this.#setMembership(record.membership, numbers.readUInt32BE(8));
    for (let register = 0; register < registersMax; register += 1) {
      const value = numbers.readUInt32BE(12 + 5 * register);
      const granted = numbers.readUInt8(16 + 5 * register) === 1;
      this.#values[register] = value;
      this.#granted[register] = granted;
      this.#hash = (this.#hash + registerHash(register, value, granted)) | 0;
    }
    this.#requests = new Map();
    for (let offset = 0; offset < requests.byteLength; offset += 13) {
      const remembered: Remembered = {
        index: requests.readUInt32BE(offset + 4),
        outcome: outcomes[requests.readUInt8(offset + 8)] ?? 'done',
        before: requests.readUInt32BE(offset + 9),
      };
      const request = requests.readUInt32BE(offset);
      this.#requests.set(request, remembered);
      this.#hash = (this.#hash + requestHash(request, remembered)) | 0;
    }
  }

  stateHash(): string {
    return (this.#hash >>> 0).toString(16).padStart(8, '0');
  }

  /** The same, for those who compare at every step. */
  hashNumber(): number {
    return this.#hash;
  }

  membership(): Membership | null {
    return this.#membership;
  }
}

/** `null`: that can't be done. */
export function changedMembership(
  membership: Membership | null,
  change: MembershipChange,
  member: string,
): Membership | null {
  if (membership === null) return change === 'found' ? { voters: [member], learners: [] } : null;
  const { voters, learners } = membership;
  const [votes, learns] = [voters.includes(member), learners.includes(member)];
  switch (change) {
    case 'found':
      return null;
    case 'addLearner':
      return votes || learns ? null : { voters, learners: [...learners, member] };
    case 'promote':
      return learns
        ? { voters: [...voters, member], learners: learners.filter((other) => other !== member) }
        : null;
    case 'remove':
      if (!(votes || learns) || (votes && voters.length === 1)) return null;
      return {
        voters: voters.filter((other) => other !== member),
        learners: learners.filter((other) => other !== member),
      };
  }
}
