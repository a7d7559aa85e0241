import { changesMembership } from '../../../src/keystate/command-class.js';
import { decodeCommand } from '../../../src/keystate/command-codec.js';
import { commandFormatMax } from '../../../src/keystate/command-format.js';
import type { KeyState } from '../../../src/keystate/key-state.js';
import type { Command, CommandEnvelope, CommandResult } from '../../../src/keystate/types.js';
import type { KeyLedger } from '../checkers/key-ledger.js';
import type { Verdict } from '../checkers/verdict.js';
import type { DiskImage } from '../disk.js';
import type { MachineKind, MembershipCommand, MembershipRequest, ReleaseNumber } from '../machine-kind.js';
import { preparedImage } from '../prepared-cluster.js';
import type { Execution } from '../register-machine.js';
import type { SimBuild } from '../sim-build.js';
import { joinDigest, joinSecret } from './join-secret.js';
import { KeyMachine } from './key-machine.js';
import type { KeyScenario } from './key-scenario.js';
import { initialCommands } from './prepared-keys.js';
import { memberAddress, requestIdOf, wallMs } from './simulated-ids.js';

/** Requests of the preparation; clients' begin at 1. */
const firstRequest = 0xf0000000;

export interface KeyKindOptions {
  readonly build: SimBuild;
  readonly scenario: KeyScenario;
  readonly ledger: KeyLedger;
  readonly verdict: Verdict;
  readonly nowMs: () => number;
  /** Whether entries that change members are under way at the leader, or it is another than `member`. */
  readonly isUnsettled: (member: string) => boolean;
  /** Of the node of that member id. */
  readonly releaseOf: (member: string) => ReleaseNumber;
}

/** Simulations over the real key state. */
export class KeyKind implements MachineKind {
  readonly chainsChanges = false;
  readonly #options: KeyKindOptions;

  constructor(options: KeyKindOptions) {
    this.#options = options;
  }

  createMachine(release: ReleaseNumber, onExecution: Execution): KeyMachine {
    const { KeyStateMachine } = this.#options.build.releases[release];
    const machine: KeyMachine = new KeyMachine(new KeyStateMachine(), onExecution, (index, command, result) =>
      this.#applied(index, command, result, machine.state),
    );
    return machine;
  }

  formatMax(release: ReleaseNumber): number {
    return this.#options.build.releases[release].commandFormatMax;
  }

  #applied(index: number, bytes: Uint8Array, result: CommandResult, state: KeyState): void {
    const { ledger } = this.#options;
    if (index <= ledger.lastIndex) return;
    const command = decodeCommand(bytes);
    // What only the next release knows grants and denies nothing.
    if (!command.ok) {
      ledger.skipped(index);
      return;
    }
    if (command.value.type === 'iv.reserve') ledger.ivs.applied(index, command.value, result, state);
    ledger.applied(index, command.value, result);
  }

  membershipCommand(request: MembershipRequest): MembershipCommand | null {
    const { machine, at, change, member } = request;
    if (!(machine instanceof KeyMachine) || this.#options.isUnsettled(at)) return null;
    const { nowMs } = this.#options;
    const envelope: CommandEnvelope = {
      requestId: requestIdOf(request.request, nowMs()),
      atMs: wallMs(nowMs()),
      by: 'operator',
    };
    const command = this.#commandOf(envelope, machine, change, member, at);
    if (command === null) return null;
    const { encodeCommand } = this.#options.build.releases[this.#options.releaseOf(at)];
    return { kind: changesMembership(command) ? 'membership' : 'command', bytes: encodeCommand(command) };
  }

  #commandOf(
    envelope: CommandEnvelope,
    machine: KeyMachine,
    change: MembershipRequest['change'],
    member: string,
    at: string,
  ): Command | null {
    switch (change) {
      case 'found':
        return foundingCommand(envelope, member);
      case 'addLearner':
        return this.#addCommand(envelope, machine, member, at);
      case 'promote':
        return { type: 'member.promote', ...envelope, memberId: member };
      case 'remove':
        return { type: 'member.remove', ...envelope, memberId: member };
    }
  }

  /** First its invitation; once that is known there, it joins. */
  #addCommand(envelope: CommandEnvelope, { state }: KeyMachine, member: string, at: string): Command | null {
    if (state.member(member) === null) return invitation(envelope, member);
    const formatMax = this.formatMax(this.#options.releaseOf(member));
    const { joinObstacle } = this.#options.build.releases[this.#options.releaseOf(at)];
    const obstacle = joinObstacle(
      state,
      {
        clusterId: state.cluster()?.clusterId ?? '',
        memberId: member,
        nodeName: member,
        secret: joinSecret(member),
        advertise: memberAddress(member),
        formatMin: 1,
        formatMax,
      },
      envelope.atMs,
    );
    if (obstacle !== null) return null;
    if (formatMax < state.activeFormat()) {
      this.#options.verdict.broken(
        'older releases are kept out',
        `${member} may join with formats up to ${formatMax}; ${state.activeFormat()} is active`,
      );
    }
    return {
      type: 'member.join',
      ...envelope,
      memberId: member,
      joinSecretDigest: joinDigest(member),
      address: memberAddress(member),
    };
  }

  preparedImage(members: readonly string[]): DiskImage {
    const { build, scenario } = this.#options;
    const [{ encodeCommand }] = build.releases;
    const machine = this.createMachine(0, () => {});
    let index = 0;
    const apply = (change: (envelope: CommandEnvelope) => Command): void => {
      index += 1;
      const requestId = requestIdOf(firstRequest + index, 0);
      machine.apply(index, encodeCommand(change({ requestId, atMs: wallMs(0), by: 'preparation' })));
      this.#options.ledger.acknowledged(index, 0);
    };
    for (const [place, member] of members.entries()) {
      if (place === 0) {
        apply((envelope) => foundingCommand(envelope, member));
        continue;
      }
      apply((envelope) => invitation(envelope, member));
      apply((envelope) => ({
        type: 'member.join',
        ...envelope,
        memberId: member,
        joinSecretDigest: joinDigest(member),
        address: memberAddress(member),
      }));
      apply((envelope) => ({ type: 'member.promote', ...envelope, memberId: member }));
    }
    for (const change of initialCommands(scenario)) apply(change);
    return preparedImage(index, machine.snapshot());
  }
}

function foundingCommand(envelope: CommandEnvelope, member: string): Command {
  return {
    type: 'cluster.init',
    ...envelope,
    clusterId: 'simulated',
    nodeName: member,
    memberId: member,
    address: memberAddress(member),
    format: commandFormatMax,
  };
}

function invitation(envelope: CommandEnvelope, member: string): Command {
  return {
    type: 'member.add',
    ...envelope,
    memberId: member,
    name: member,
    address: memberAddress(member),
    joinSecretDigest: joinDigest(member),
    expiresAtMs: envelope.atMs + 86_400_000,
  };
}
