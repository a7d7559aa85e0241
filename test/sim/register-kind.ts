import type { MachineKind } from './machine-kind.js';
import { preparedImage } from './prepared-cluster.js';
import { encodeCommand, RegisterMachine } from './register-machine.js';
import type { SimBuild } from './sim-build.js';

/** Requests of the preparation; clients' begin at 1. */
const firstRequest = 0xf0000000;

/** Simulations over the small state machine. */
export function registerKind(build: SimBuild, snapshotPaddingBytes: number): MachineKind {
  return {
    chainsChanges: true,
    createMachine: (_release, onExecution) => build.createMachine(onExecution, snapshotPaddingBytes),
    formatMax: () => 1,
    membershipCommand: ({ request, change, member, seen }) => ({
      kind: 'membership',
      bytes: encodeCommand({ kind: 'membership', request, change, member, seen }, 0),
    }),
    preparedImage: (members) => {
      const machine = new RegisterMachine(() => {});
      let index = 0;
      const apply = (change: 'found' | 'addLearner' | 'promote', member: string): void => {
        const seen = machine.membershipRevision;
        index += 1;
        const request = firstRequest + index;
        machine.apply(index, encodeCommand({ kind: 'membership', request, change, member, seen }, 0));
      };
      for (const [place, member] of members.entries()) {
        if (place === 0) {
          apply('found', member);
        } else {
          apply('addLearner', member);
          apply('promote', member);
        }
      }
      return preparedImage(index, machine.snapshot());
    },
  };
}
