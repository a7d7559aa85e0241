import { unreachable } from '../base/guards.js';
import type { LogFields } from '../base/logger.js';
import {
  type ChildMessage,
  replicaHeartbeatTimeoutMs,
  type SupervisorMessage,
  servingHeartbeatTimeoutMs,
} from '../ops/supervision.js';
import { type ChildRecord, newChild, replicaSlot } from './child-record.js';
import { usefulAfterMs } from './restart-policy.js';
import { type Action, type Event, exitCodes } from './supervision-events.js';

/** How often `tick` wants to be called. */
export const tickIntervalMs = 100;
/** Ticks further apart than this mean that the supervisor itself stood still. */
const standstillMs = 1_000;
/** From a child's start to its first heartbeat. */
const startTimeoutMs = 20_000;
/**
 * A standby of the replica is started when the replica has been up for so long: neither while the node starts, nor for one
 * that fails again and again.
 */
const standbyAfterMs = usefulAfterMs;
const standbyLookMs = 30_000;
/** What a serving process has after its drain, for requests in flight (2 s) and closing HSM sessions. */
const servingStopMs = 10_000;
const replicaStopMs = 10_000;
/**
 * What the clients of a process that is replaced while it serves have to ask once more and be told to leave: some
 * milliseconds each when they are busy.
 */
const leaveMs = 1_000;
/** A process that has just started is slow, and takes over connections; what hung may come back meanwhile, too. */
const settledAfterMs = 5_000;

type Phase =
  | { readonly kind: 'running' }
  | { readonly kind: 'draining'; readonly untilMs: number; readonly signals: number }
  | { readonly kind: 'stopping-replica'; readonly untilMs: number };

/**
 * Decides when children are started, killed and told things; does nothing itself. Events come in with the monotonic
 * time of their arrival, what is to be done goes out. Slot 0 is the replica, 1…N are the serving processes.
 */
export class Supervision {
  readonly #drainMs: number;
  readonly #children: readonly ChildRecord[];
  #phase: Phase = { kind: 'running' };
  #started = false;
  #announced = false;
  #listenersClosed = false;
  #finished = false;
  #exitCode: number = exitCodes.ok;
  #tickedAtMs: number | null = null;
  /** When the replica's standby is looked after next. */
  #standbyAtMs = 0;
  #lastStatus = '';
  #lastFleet: string;
  #actions: Action[] = [];

  constructor(options: {
    readonly servingProcesses: number;
    readonly drainMs: number;
    readonly random: () => number;
  }) {
    this.#drainMs = options.drainMs;
    this.#children = Array.from({ length: options.servingProcesses + 1 }, (_, slot) =>
      newChild(slot, options.random),
    );
    this.#lastFleet = JSON.stringify(this.#fleet());
  }

  handle(event: Event, nowMs: number): readonly Action[] {
    this.#actions = [];
    if (this.#finished) return this.#actions;
    switch (event.kind) {
      case 'start':
        this.#started = true;
        this.#startDue(nowMs);
        break;
      case 'spawned':
        this.#child(event.slot).pid = event.pid;
        break;
      case 'message':
        this.#onMessage(this.#child(event.slot), event.message, nowMs);
        break;
      case 'exited':
        this.#onExit(this.#child(event.slot), event, nowMs);
        break;
      case 'tick':
        this.#onTick(nowMs);
        break;
      case 'stop':
        this.#onStop(nowMs);
        break;
      default:
        unreachable(event);
    }
    if (!this.#finished) {
      this.#promote();
      this.#report();
    }
    return this.#actions;
  }

  /**
   * Whether systemd's watchdog may be fed. Not an HSM's crashing library nor a full disk withholds it (all nodes would
   * restart together), only serving processes that neither answer nor die.
   */
  isSound(nowMs: number): boolean {
    const running = this.#serving().filter((child) => child.state === 'running');
    return running.length === 0 || running.some((child) => !this.#isSilent(child, nowMs));
  }

  #child(slot: number): ChildRecord {
    const child = this.#children[slot];
    if (child === undefined) throw new RangeError(`no slot ${slot}`);
    return child;
  }

  #serving(): readonly ChildRecord[] {
    return this.#children.slice(replicaSlot + 1);
  }

  #readyCount(): number {
    return this.#serving().filter((child) => child.ready).length;
  }

  #log(
    level: 'info' | 'warn' | 'error',
    message: string,
    child: ChildRecord | null,
    fields: LogFields = {},
  ): void {
    const who = child === null ? {} : { childRole: child.role, childSlot: child.slot };
    this.#actions.push({ kind: 'log', level, message, fields: { ...who, ...fields } });
  }

  #onMessage(child: ChildRecord, message: ChildMessage, nowMs: number): void {
    if (child.state !== 'running') return;
    switch (message.kind) {
      case 'heartbeat':
        child.heardAtMs = nowMs;
        break;
      case 'readiness':
        if (child.ready !== message.ready || child.reason !== message.reason) {
          const { ready, reason } = message;
          this.#log(ready ? 'info' : 'warn', ready ? 'child is ready' : 'child is not ready', child, {
            reason,
          });
        }
        if (!child.ready) child.readySinceMs = nowMs;
        child.ready = message.ready;
        child.reason = message.reason;
        child.wasReady ||= message.ready;
        child.concluded = true;
        child.isSuccessor = false;
        break;
      case 'stuck':
        child.stuck = message.reason;
        this.#replaceStuck(nowMs);
        break;
      case 'fatal':
        child.fatal = message.message;
        child.ready = false;
        child.reason = message.message;
        this.#log('error', 'child cannot go on', child, { reason: message.message });
        break;
      default:
        unreachable(message);
    }
  }

  #onExit(
    child: ChildRecord,
    exit: { readonly code: number | null; readonly signal: string | null },
    nowMs: number,
  ): void {
    if (child.state !== 'running') return;
    const expected = exit.code === 0 && (this.#phase.kind !== 'running' || child.replaceByMs !== null);
    const { code, signal } = exit;
    this.#log(expected ? 'info' : 'error', expected ? 'child ended' : 'child died', child, { code, signal });
    child.pid = null;
    child.ready = false;
    child.concluded = true;
    child.isSuccessor = child.replaceByMs !== null;
    child.replaceByMs = null;
    child.stuck = null;
    child.isBehind = false;
    if (child.fatal === null) child.reason = 'restarting';

    if (
      this.#phase.kind === 'running' ||
      (this.#phase.kind === 'draining' && !expected && this.#mayRestart(nowMs))
    ) {
      if (this.#failsAtBoot(child)) return;
      const delayMs =
        child.fatal === null
          ? child.restarts.afterExit(nowMs - child.startedAtMs)
          : child.restarts.afterFatal();
      child.state = 'waiting';
      child.startAtMs = nowMs + delayMs;
      this.#startDue(nowMs);
      return;
    }
    if (!expected) this.#exitCode = exitCodes.failed;
    child.state = 'ended';
    this.#advanceStop(nowMs);
  }

  /** While draining, requests are still answered: who dies is replaced as long as that lasts. */
  #mayRestart(nowMs: number): boolean {
    if (this.#phase.kind === 'draining') return nowMs < this.#phase.untilMs;
    return this.#phase.kind === 'running';
  }

  /** A node that can only be put right by a person says so at once, instead of restarting before it ever served. */
  #failsAtBoot(child: ChildRecord): boolean {
    if (this.#announced || child.fatal === null || this.#phase.kind !== 'running') return false;
    const group = child.role === 'replica' ? [child] : this.#serving();
    if (group.some((each) => each.fatal === null || each.wasReady)) return false;
    this.#finish(exitCodes.needsPerson, child.fatal);
    return true;
  }

  #onTick(nowMs: number): void {
    const sinceLastMs = this.#tickedAtMs === null ? 0 : nowMs - this.#tickedAtMs;
    this.#tickedAtMs = nowMs;
    if (sinceLastMs > standstillMs) {
      // We were stopped or starved: heartbeats wait unread, and the silence was ours.
      for (const child of this.#children) {
        if (child.heardAtMs !== null) child.heardAtMs += sinceLastMs;
        child.startedAtMs += sinceLastMs;
        child.readySinceMs += sinceLastMs;
        if (child.replaceByMs !== null) child.replaceByMs += sinceLastMs;
      }
      this.#log('warn', 'the supervisor stood still', null, { forMs: Math.round(sinceLastMs) });
    }
    for (const child of this.#children) {
      if (child.state === 'running' && !child.killed && this.#isSilent(child, nowMs)) {
        this.#log('error', 'child does not answer, replacing it', child);
        this.#kill(child);
      }
    }
    this.#replaceStuck(nowMs);
    this.#lookAfterStandby(nowMs);
    if (this.#phase.kind === 'draining' && nowMs >= this.#phase.untilMs) this.#closeListeners();
    if (this.#phase.kind === 'draining' && nowMs >= this.#phase.untilMs + servingStopMs) this.#killAll();
    if (this.#phase.kind === 'stopping-replica' && nowMs >= this.#phase.untilMs) this.#killAll();
    this.#startDue(nowMs);
    this.#advanceStop(nowMs);
  }

  /** One that is ready all the same, being stuck with one HSM of several or in administration, goes while all others are up to its load. */
  #isExpendable(child: ChildRecord, nowMs: number): boolean {
    const others = this.#serving().filter((other) => other !== child);
    const isSettled = ({ ready, readySinceMs }: ChildRecord): boolean =>
      ready && nowMs - readySinceMs >= settledAfterMs;
    return child.state === 'running' && (!child.ready || (others.length > 0 && others.every(isSettled)));
  }

  /**
   * One at a time, the next when the last one's successor has told how it fares: an HSM that hangs must not take all
   * processes out at once, of which another may be about to recover.
   */
  #replaceStuck(nowMs: number): void {
    for (const child of this.#serving()) {
      if (child.state === 'running' && !child.killed && nowMs >= (child.replaceByMs ?? Infinity)) {
        this.#log('error', 'child did not stop in time, killing it', child);
        this.#kill(child);
      }
    }
    if (this.#phase.kind !== 'running') return;
    const isReplacing = this.#serving().some((child) => child.replaceByMs !== null || child.isSuccessor);
    const stuck = this.#serving().find((child) => child.stuck !== null && this.#isExpendable(child, nowMs));
    if (isReplacing || stuck === undefined) return;
    this.#log('error', 'child cannot recover, replacing it', stuck, { reason: stuck.stuck });
    const leavesInMs = stuck.ready ? leaveMs : 0;
    stuck.replaceByMs = nowMs + leavesInMs + servingStopMs;
    this.#send(stuck, { kind: 'leave', leaveMs: leavesInMs });
  }

  #lookAfterStandby(nowMs: number): void {
    const replica = this.#child(replicaSlot);
    if (this.#phase.kind !== 'running' || nowMs < this.#standbyAtMs) return;
    if (!replica.ready || nowMs - replica.startedAtMs < standbyAfterMs) return;
    this.#standbyAtMs = nowMs + standbyLookMs;
    this.#actions.push({ kind: 'standby', wanted: true });
  }

  #isSilent(child: ChildRecord, nowMs: number): boolean {
    if (child.heardAtMs === null) return nowMs - child.startedAtMs > startTimeoutMs;
    const limitMs = child.role === 'replica' ? replicaHeartbeatTimeoutMs : servingHeartbeatTimeoutMs;
    return nowMs - child.heardAtMs > limitMs;
  }

  #kill(child: ChildRecord): void {
    child.killed = true;
    child.ready = false;
    child.reason = 'does not answer';
    this.#actions.push({ kind: 'kill', slot: child.slot });
  }

  #killAll(): void {
    for (const child of this.#children) {
      if (child.state === 'running' && !child.killed) {
        this.#log('error', 'child did not stop in time, killing it', child);
        this.#kill(child);
      }
    }
  }

  #startDue(nowMs: number): void {
    if (!this.#started) return;
    for (const child of this.#children) {
      if (child.state !== 'waiting' || nowMs < child.startAtMs || !this.#mayRestart(nowMs)) continue;
      child.state = 'running';
      child.startedAtMs = nowMs;
      child.heardAtMs = null;
      child.killed = false;
      child.ready = false;
      child.fatal = null;
      this.#actions.push({ kind: 'spawn', slot: child.slot, role: child.role });
      if (child.role === 'replica') this.#standbyAtMs = 0;
      child.isBehind = child.role === 'serving' && this.#readyCount() > 0;
      if (child.isBehind) this.#actions.push({ kind: 'priority', slot: child.slot, level: 'start' });
      this.#send(child, this.#fleet());
      if (this.#phase.kind === 'draining' && child.role === 'serving')
        this.#sendDrain(child, this.#phase.untilMs - nowMs);
    }
  }

  /** Who serves now, or starts with nobody left who does, comes after nobody. */
  #promote(): void {
    const isAnyReady = this.#readyCount() > 0;
    for (const child of this.#serving()) {
      if (!child.isBehind || (isAnyReady && !child.ready)) continue;
      child.isBehind = false;
      this.#actions.push({ kind: 'priority', slot: child.slot, level: 'normal' });
    }
  }

  #fleet(): SupervisorMessage {
    return {
      kind: 'fleet',
      readyServingProcesses: this.#readyCount(),
      servingProcesses: this.#children.length - 1,
      running: this.#serving().flatMap(({ slot, pid }) => (pid === null ? [] : [{ slot, pid }])),
    };
  }

  #sendDrain(child: ChildRecord, drainMs: number): void {
    this.#send(child, { kind: 'drain', drainMs: Math.round(drainMs) });
  }

  #send(child: ChildRecord, message: SupervisorMessage): void {
    this.#actions.push({ kind: 'send', slot: child.slot, message });
  }

  #onStop(nowMs: number): void {
    const signals = this.#phase.kind === 'draining' ? this.#phase.signals + 1 : 1;
    if (this.#phase.kind === 'stopping-replica' || signals > 2) {
      this.#killAll();
      return;
    }
    // No load balancer sends requests to a node that was never healthy.
    const served = this.#serving().some((child) => child.wasReady);
    const drainMs = signals === 1 && served ? this.#drainMs : 0;
    this.#phase = { kind: 'draining', untilMs: nowMs + drainMs, signals };
    this.#log('info', 'draining', null, { drainMs });
    if (signals === 1) {
      this.#actions.push({ kind: 'notify', state: 'stopping', status: `draining for ${drainMs / 1_000} s` });
      this.#actions.push({ kind: 'standby', wanted: false });
    }
    for (const child of this.#serving()) if (child.state === 'running') this.#sendDrain(child, drainMs);
    if (drainMs === 0) this.#closeListeners();
    this.#advanceStop(nowMs);
  }

  #closeListeners(): void {
    if (this.#listenersClosed) return;
    this.#listenersClosed = true;
    this.#actions.push({ kind: 'close-listeners' });
  }

  /** The serving processes first, then the replica (they need its key state), then we. */
  #advanceStop(nowMs: number): void {
    if (this.#phase.kind === 'running') return;
    const isLeft = (child: ChildRecord): boolean =>
      child.state === 'running' ||
      (child.state === 'waiting' && child.role === 'serving' && this.#mayRestart(nowMs));
    if (this.#phase.kind === 'draining' && !this.#serving().some(isLeft)) {
      this.#phase = { kind: 'stopping-replica', untilMs: nowMs + replicaStopMs };
      this.#closeListeners();
      const replica = this.#child(replicaSlot);
      if (replica.state === 'running') this.#sendDrain(replica, 0);
    }
    if (this.#phase.kind === 'stopping-replica' && this.#child(replicaSlot).state !== 'running') {
      this.#finish(this.#exitCode, null);
    }
  }

  #finish(code: number, message: string | null): void {
    this.#finished = true;
    this.#actions.push({ kind: 'finish', code, message });
  }

  /** What others should know after an event: children who the serving processes are, systemd that we are up, people the status. */
  #report(): void {
    const fleet = this.#fleet();
    const fleetText = JSON.stringify(fleet);
    if (fleetText !== this.#lastFleet) {
      this.#lastFleet = fleetText;
      for (const child of this.#children) if (child.state === 'running') this.#send(child, fleet);
    }
    if (this.#phase.kind !== 'running') return;
    const status = this.#status();
    // READY does not wait for an HSM: a node whose HSM is down is up, and tells load balancers that it is not healthy.
    const isUp = this.#child(replicaSlot).wasReady && this.#serving().every((child) => child.concluded);
    if (!this.#announced && isUp) {
      this.#announced = true;
      this.#actions.push({ kind: 'notify', state: 'ready', status });
    } else if (status !== this.#lastStatus) {
      this.#actions.push({ kind: 'status', status });
    }
    this.#lastStatus = status;
  }

  #status(): string {
    const serving = this.#serving();
    const replica = this.#child(replicaSlot);
    const reasons = [...new Set(serving.filter((child) => !child.ready).map((child) => child.reason))];
    const parts = [`${this.#readyCount()} of ${serving.length} serving processes ready`, ...reasons];
    parts.push(replica.ready ? 'replica up' : `replica: ${replica.reason}`);
    return parts.join('; ');
  }
}
