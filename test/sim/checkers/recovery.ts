import type { LogPosition, MemberId } from '../../../src/raft/types.js';
import { decodeCommand, RegisterMachine, registersMax } from '../register-machine.js';
import type { RecoveredState } from './observed-log.js';
import type { Verdict } from './verdict.js';

/** What a survivor's disk held when its cluster had lost its quorum. */
export interface SurvivingLog extends Pick<RecoveredState, 'hardState' | 'snapshot' | 'entries'> {
  readonly memberId: MemberId;
  readonly snapshotRecords: readonly Uint8Array[] | null;
}

/** What a recovery made of one of them. */
export interface RecoveredCluster {
  readonly memberId: MemberId;
  readonly clusterId: string;
  readonly position: LogPosition;
  readonly machine: RegisterMachine;
}

export const endOf = ({ snapshot, entries }: SurvivingLog): LogPosition => {
  const { index, term } = entries.at(-1) ?? snapshot;
  return { index, term };
};

/** Recovery from lost quorum (replication.md 13), told from the disks alone. */
export class Recovery {
  readonly #verdict: Verdict;
  readonly #clusterIds: Set<string>;

  /** @param clusterId of the cluster before any recovery. */
  constructor(verdict: Verdict, clusterId: string) {
    this.#verdict = verdict;
    this.#clusterIds = new Set([clusterId]);
  }

  /** `memberId` would have been recovered, having been told of all `survivors`. */
  accepted(memberId: MemberId, survivors: readonly SurvivingLog[]): void {
    const own = survivors.find((one) => one.memberId === memberId);
    if (own === undefined) return;
    const end = endOf(own);
    for (const other of survivors) {
      const { index, term } = endOf(other);
      if (term < end.term || (term === end.term && index <= end.index)) continue;
      this.#verdict.broken(
        'lesser log refused',
        `${memberId} ends at ${end.index}/${end.term} and is recovered, ${other.memberId} ends at ${index}/${term}`,
      );
    }
  }

  /**
   * @param survivors that were compared, the one recovered among them.
   * @param acknowledged requests that clients were told of, with the index of each.
   */
  recovered(
    cluster: RecoveredCluster,
    survivors: readonly SurvivingLog[],
    acknowledged: Iterable<readonly [request: number, position: LogPosition]>,
  ): void {
    const { memberId, clusterId, position, machine } = cluster;
    if (this.#clusterIds.has(clusterId)) {
      this.#verdict.broken('two histories', `${memberId} begins another history as cluster ${clusterId}`);
    }
    this.#clusterIds.add(clusterId);
    const log = survivors.find((one) => one.memberId === memberId);
    if (log === undefined) return;
    if (position.term <= Math.max(log.hardState.term, endOf(log).term)) {
      this.#verdict.broken(
        'two histories',
        `${memberId} begins with term ${position.term}, in which another member may have led the cluster before`,
      );
    }
    const commitIndex = Math.max(...survivors.map(({ hardState }) => hardState.commitIndex));
    const whole = this.#keepsAll(machine, log, commitIndex);
    this.#keepsAcknowledged(machine, whole, log, acknowledged);
  }

  /** All of the log, but what it grants beyond the commit index. @returns the state by the log alone. */
  #keepsAll(machine: RegisterMachine, log: SurvivingLog, commitIndex: number): RegisterMachine {
    const whole = new RegisterMachine(() => {});
    if (log.snapshotRecords !== null) whole.restore(log.snapshot.index, log.snapshotRecords);
    const unconfirmed = new Set<number>();
    for (const { index, kind, data } of log.entries) {
      if (kind === 'noop') {
        whole.skip(index);
        continue;
      }
      const result = whole.apply(index, data);
      if (index > commitIndex && !result.repeated) unconfirmed.add(decodeCommand(data).request);
    }
    for (let register = 0; register < registersMax; register += 1) {
      const value = whole.value(register);
      const waits = whole.granted(register) && unconfirmed.has(value);
      if (waits) this.#isPending(machine, register, value, commitIndex);
      else if (machine.value(register) !== value || machine.granted(register) !== whole.granted(register)) {
        this.#verdict.broken(
          'survivor’s log kept',
          `register ${register} is ${text(machine, register)} after the recovery, and ${text(whole, register)} by the log`,
        );
      }
    }
    return whole;
  }

  #isPending(machine: RegisterMachine, register: number, request: number, commitIndex: number): void {
    const known = machine.pending.some((grant) => grant.register === register && grant.request === request);
    if (known && !machine.granted(register)) return;
    this.#verdict.broken(
      'unconfirmed grants wait',
      `request ${request}, granted beyond commit index ${commitIndex}, is in force after the recovery`,
    );
  }

  #keepsAcknowledged(
    machine: RegisterMachine,
    whole: RegisterMachine,
    { snapshot, entries }: SurvivingLog,
    acknowledged: Iterable<readonly [request: number, position: LogPosition]>,
  ): void {
    const executed = new Set([...machine.executed()].map(({ request }) => request));
    // What the log itself, replayed, has forgotten may be: acknowledged once more long after it was executed.
    const remembered = new Set([...whole.executed()].map(({ request }) => request));
    for (const [request, { index, term }] of acknowledged) {
      // What is in the snapshot may be forgotten by now, as everywhere.
      const found = index > snapshot.index ? entries[index - snapshot.index - 1] : undefined;
      if (found?.term !== term || executed.has(request) || !remembered.has(request)) continue;
      this.#verdict.broken(
        'survivor’s log kept',
        `request ${request} was acknowledged and is at ${index} of the log, and not in the recovered state`,
      );
    }
  }

  /** `to` takes for its own what `from`, of the other history, says. */
  mixed(from: MemberId, to: MemberId, said: string): void {
    this.#verdict.broken('two histories', `${to} listens to ${from}, which is of another history: ${said}`);
  }

  /** At the end: `member` was left behind, runs, and has reached the new cluster. */
  finally(member: MemberId, fenced: string | null): void {
    if (fenced === null) {
      this.#verdict.broken('former members are fenced', `${member} was left behind and does not know it`);
    }
  }
}

const text = (machine: RegisterMachine, register: number): string =>
  `${machine.value(register)} (${machine.granted(register) ? 'granted' : 'denied'})`;
