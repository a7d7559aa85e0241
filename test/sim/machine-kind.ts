import type { DiskImage } from './disk.js';
import type { Execution, MembershipChange } from './register-machine.js';
import type { SimMachine } from './sim-machine.js';

/** Releases that nodes of one cluster run: the one under test, and the one that is to come after it. */
export type ReleaseNumber = 0 | 1;

export interface MembershipRequest {
  readonly request: number;
  readonly change: MembershipChange;
  readonly member: string;
  /** Membership revision that the operator saw. */
  readonly seen: number;
  /** Where it is proposed, and what runs there. */
  readonly at: string;
  readonly machine: SimMachine;
}

export interface MembershipCommand {
  readonly kind: 'command' | 'membership';
  readonly bytes: Uint8Array;
}

/** What differs between simulations over registers and over key state. */
export interface MachineKind {
  /** Several changes of membership may be proposed at once: each names what it saw. */
  readonly chainsChanges: boolean;
  createMachine(release: ReleaseNumber, onExecution: Execution): SimMachine;
  /** Newest format that the release knows. */
  formatMax(release: ReleaseNumber): number;
  /** `null`: nothing is to be proposed there and now. */
  membershipCommand(request: MembershipRequest): MembershipCommand | null;
  /** The disk of each member of a cluster of `members` that has just been made. */
  preparedImage(members: readonly string[]): DiskImage;
}
