import type { Logger } from '../base/logger.js';
import type { Timers } from '../base/timers.js';
import { encodeFreshFrame, encodeIndexFrame, encodeJsonFrame } from '../ops/frames.js';
import type { LinkConnection } from '../ops/link-connection.js';
import {
  FrameType,
  type Hello,
  type HsmReply,
  type IvWants,
  type MetricsReport,
  type Standing,
} from '../ops/state-link.js';
import type { RunningServingProcess } from '../ops/supervision.js';
import { ServingLink } from './serving-link.js';

/** Processes whose link went away while they may still serve. */
const departedMax = 64;
/** While an acknowledgement is waited for, processes without a link are looked at so often. */
const departedCheckMs = 25;

/** Key state as publication sees it: the ordered log and the state machine above it. */
export interface PublishedState {
  readonly appliedIndex: number;
  /** The whole state as of `appliedIndex`. */
  snapshot(): Iterable<Uint8Array>;
  subscribe(subscriber: StateSubscriber): () => void;
}

export interface StateSubscriber {
  /** `command` is empty where the log's engine took an index for itself. */
  onEntry(entry: { readonly index: number; readonly command: Uint8Array }): void;
  /** The state was replaced by a snapshot as of `index`. */
  onRestore(index: number): void;
  /** Confirmed by a quorum as of `asOfMs` (boot clock), up to `index`, which is applied. */
  onFresh(asOfMs: number, index: number): void;
}

/** A link whose peer has said who it is. */
export type GreetedLink = ServingLink & { readonly hello: Hello };

/** Who else wants to know of links. */
export interface PublicationObserver {
  onHello(link: ServingLink, hello: Hello): void;
  onMetrics(link: ServingLink, hello: Hello, report: MetricsReport): void;
  onHsmReply(link: ServingLink, reply: HsmReply): void;
  onIvWants?(link: ServingLink, hello: Hello, wants: IvWants): void;
  onClosed(link: ServingLink, hello: Hello): void;
}

/** A serving process that has not applied an index, or may not have. */
export interface Laggard {
  /** `null`: the supervisor has not said yet which there are. */
  readonly slot: number | null;
  readonly pid: number | null;
  readonly appliedIndex: number | null;
  readonly connected: boolean;
}

export interface ServingLinksOptions {
  /** `XKSD_SUPERVISOR_NONCE`. */
  readonly supervisorNonce: string;
  readonly state: PublishedState;
  readonly logger: Logger;
  readonly timers: Timers;
  /** Whether a process with that id exists. */
  readonly isProcessAlive: (pid: number) => boolean;
  /**
   * The serving processes that the supervisor runs; `null` before it has said so. Any of them may serve, whether linked
   * or not, ready or not.
   */
  readonly runningServingProcesses: () => readonly RunningServingProcess[] | null;
  /** Until `standingChanged` says otherwise. */
  readonly standing: Standing;
  readonly linkBufferBytesMax?: number;
}

/**
 * Publishes key state to the serving processes of this node: to each a snapshot, then every later command in order and
 * without gaps. Knows who has applied what. Connections are handed in
 * (`accept`), and time, so that the simulator runs this very code.
 */
export class ServingLinks {
  readonly #options: ServingLinksOptions;
  readonly #observers = new Set<PublicationObserver>();
  /** Every connection, with or without hello. */
  readonly #links = new Set<ServingLink>();
  /** By processId: serving processes that had a link. Still serving with the state they have, for all we know. */
  readonly #departed = new Map<string, { readonly hello: Hello; readonly appliedIndex: number }>();
  readonly #waiters = new Set<() => void>();
  #standing: Standing;
  readonly #unsubscribe: () => void;

  constructor(options: ServingLinksOptions) {
    this.#options = options;
    this.#standing = options.standing;
    this.#unsubscribe = options.state.subscribe({
      onEntry: ({ index, command }) => this.#publish(index, command),
      // Each connects again and gets the new state whole; until then it serves by the one it has.
      onRestore: () => this.#cutAll('the state was replaced by a snapshot from another node'),
      onFresh: (asOfMs, index) => this.#publishFreshness(asOfMs, index),
    });
  }

  observe(observer: PublicationObserver): void {
    this.#observers.add(observer);
  }

  /** The serving processes that are linked, by slot. */
  links(): readonly GreetedLink[] {
    const greeted = [...this.#links].filter((link): link is GreetedLink => link.hello !== null);
    return greeted.sort((left, right) => left.hello.slot - right.hello.slot);
  }

  /** Ends all links; serving processes go on with the state they have. */
  close(): void {
    this.#unsubscribe();
    this.#cutAll('the replica ends');
  }

  /** Tells every serving process, also those that come later. */
  standingChanged(standing: Standing): void {
    const { mayServe, reason, fleetSize } = this.#standing;
    if (mayServe === standing.mayServe && reason === standing.reason && fleetSize === standing.fleetSize)
      return;
    this.#standing = standing;
    const frame = encodeJsonFrame(FrameType.standing, standing);
    for (const link of this.links()) link.enqueue(frame);
  }

  /** The supervisor's word on its serving processes changed. */
  fleetChanged(): void {
    this.#recheck();
  }

  /**
   * Waits until every serving process of this node has applied `index`: those linked, those that lost their link and
   * live, and those that the supervisor knows and we don't.
   *
   * @returns who has not after `timeoutMs`; empty when all have.
   */
  acknowledgedBy(index: number, timeoutMs: number): Promise<readonly Laggard[]> {
    const { timers } = this.#options;
    return new Promise((resolve) => {
      const settle = (laggards: readonly Laggard[]): void => {
        stopWaiting();
        stopLooking();
        this.#waiters.delete(check);
        resolve(laggards);
      };
      const check = (): void => {
        const laggards = this.#laggards(index);
        if (laggards.length === 0) settle(laggards);
      };
      let stopLooking = (): void => {};
      const look = (): void => {
        stopLooking = timers.after(departedCheckMs, look);
        check();
      };
      const stopWaiting = timers.after(timeoutMs, () => settle(this.#laggards(index)));
      stopLooking = timers.after(departedCheckMs, look);
      this.#waiters.add(check);
      check();
    });
  }

  #laggards(index: number): readonly Laggard[] {
    const links = this.links();
    const linked = links
      .filter((link) => link.appliedIndex < index)
      .map(({ hello, appliedIndex }) => ({
        slot: hello.slot,
        pid: hello.pid,
        appliedIndex,
        connected: true,
      }));
    this.#forgetEndedProcesses();
    const departed = [...this.#departed.values()];
    // What it acknowledged before its link went stays applied.
    const unlinked = departed
      .filter(({ appliedIndex }) => appliedIndex < index)
      .map(({ hello, appliedIndex }) => ({
        slot: hello.slot,
        pid: hello.pid,
        appliedIndex,
        connected: false,
      }));
    const known = new Set([...links, ...departed].map(({ hello }) => hello.pid));
    const running = this.#options.runningServingProcesses() ?? [{ slot: null, pid: null }];
    const strangers = running
      .filter(({ pid }) => pid === null || !known.has(pid))
      .map((stranger) => ({ ...stranger, appliedIndex: null, connected: false }));
    return [...linked, ...unlinked, ...strangers];
  }

  #forgetEndedProcesses(): void {
    for (const [processId, { hello }] of this.#departed) {
      if (!this.#options.isProcessAlive(hello.pid)) this.#departed.delete(processId);
    }
  }

  #recheck(): void {
    for (const check of [...this.#waiters]) check();
  }

  #publish(index: number, command: Uint8Array): void {
    const frame = encodeIndexFrame(FrameType.entry, index, command);
    for (const link of this.links()) link.enqueueEntry(index, frame);
  }

  #cutAll(reason: string): void {
    for (const link of this.#links) link.cut(reason);
  }

  #publishFreshness(asOfMs: number, index: number): void {
    const frame = encodeFreshFrame(asOfMs, index);
    for (const link of this.links()) link.enqueue(frame);
  }

  /** A serving process connects: it says hello first. */
  accept(connection: LinkConnection): void {
    const link = new ServingLink(
      connection,
      {
        refusal: ({ supervisorNonce, slot, pid }) =>
          supervisorNonce === this.#options.supervisorNonce
            ? null
            : `process ${pid} (slot ${slot}) is of another xksd with the same runtime directory`,
        onHello: (greeted, hello) => this.#greet(greeted, hello),
        onApplied: () => this.#recheck(),
        onMetrics: ({ hello }, report) => {
          if (hello === null) return;
          for (const observer of this.#observers) observer.onMetrics(link, hello, report);
        },
        onHsmReply: (_, reply) => {
          for (const observer of this.#observers) observer.onHsmReply(link, reply);
        },
        onIvWants: ({ hello }, wants) => {
          if (hello === null) return;
          for (const observer of this.#observers) observer.onIvWants?.(link, hello, wants);
        },
        onClosed: (_, reason) => this.#forget(link, reason),
      },
      this.#options.timers,
      this.#options.linkBufferBytesMax,
    );
    this.#links.add(link);
  }

  #greet(link: ServingLink, hello: Hello): void {
    this.#options.logger.info('serving process linked', {
      servingSlot: hello.slot,
      servingPid: hello.pid,
      servingVersion: hello.version,
    });
    // A slot has one process at a time: who held it before has ended, or is this one.
    for (const [processId, departed] of this.#departed) {
      if (departed.hello.slot === hello.slot) this.#departed.delete(processId);
    }
    for (const other of this.links()) {
      if (other !== link && other.hello.slot === hello.slot) other.cut('its slot has a new process');
    }
    // It is in the set from here on (`links`), before its snapshot is taken: no command falls between the two.
    const { appliedIndex: index } = this.#options.state;
    // Lazily: each record is made when the link takes it, between the turns in which this node may have to lead.
    link.startSnapshot(index, this.#options.state.snapshot());
    link.enqueue(encodeJsonFrame(FrameType.standing, this.#standing));
    for (const observer of this.#observers) observer.onHello(link, hello);
    this.#recheck();
  }

  #forget(link: ServingLink, reason: string | null): void {
    this.#links.delete(link);
    const { hello } = link;
    if (hello === null) {
      this.#options.logger.warn('a connection to the state socket ended before its hello', { reason });
      return;
    }
    this.#options.logger[reason === null ? 'info' : 'warn']('serving process unlinked', {
      slot: hello.slot,
      pid: hello.pid,
      reason,
    });
    const replaced = this.links().some((other) => other.hello.slot === hello.slot);
    if (!replaced) {
      const [oldest] = this.#departed.keys();
      if (this.#departed.size >= departedMax && oldest !== undefined) this.#departed.delete(oldest);
      this.#departed.set(hello.processId, { hello, appliedIndex: link.appliedIndex });
    }
    for (const observer of this.#observers) observer.onClosed(link, hello);
    this.#recheck();
  }
}
