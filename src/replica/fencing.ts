import type { Logger } from '../base/logger.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { ClusterEngine } from '../replication/cluster-engine.js';
import { writeFence } from '../replication/fence-file.js';
import type { FileOperations } from '../replication/file-operations.js';
import type { Refusal } from '../replication/transport/refusal.js';
import type { StandingWatch } from './standing-watch.js';

const fenceRetryMs = 1_000;
const refusalHoldsMs = 5_000;
/** One that has heard from a quorum so lately is no former member, whatever somebody says. */
const fenceAfterStaleMs = 5_000;

export interface FencingOptions {
  readonly state: () => KeyStateQueries;
  readonly engine: Pick<ClusterEngine, 'memberId' | 'status'>;
  readonly standing: Pick<StandingWatch, 'fence' | 'fenced'>;
  readonly files: FileOperations;
  readonly dataDir: string;
  /** Boot clock, ms. */
  readonly bootTimeMs: () => number;
  /** Resolves after so many milliseconds; `false` when this process ends first. */
  readonly wait: (ms: number) => Promise<boolean>;
  readonly logger: Logger;
}

/** Notices that this node is no member any more, or must not be relied on, and sees to it that it serves no more. */
export class Fencing {
  readonly #options: FencingOptions;
  /** By member: what it said last, when it did not listen to this node, and when (boot clock). */
  readonly #refusals = new Map<string, { readonly refusal: Refusal; readonly atMs: number }>();

  constructor(options: FencingOptions) {
    this.#options = options;
  }

  /** Members that do not listen to this node: what each said last. They repeat it each second while it holds. */
  refusals(): ReadonlyMap<string, Refusal> {
    const sinceMs = this.#options.bootTimeMs() - refusalHoldsMs;
    const current = [...this.#refusals].filter(([, { atMs }]) => atMs >= sinceMs);
    return new Map(current.map(([member, { refusal }]) => [member, refusal]));
  }

  /** Others that do not listen to this node may know better than it whether it is still a member (replication.md 14). */
  async refused(by: string, refusal: Refusal): Promise<void> {
    const { state, engine, bootTimeMs, logger } = this.#options;
    const { reason, detail } = refusal;
    const name = state().member(by)?.name ?? by;
    const isNews = this.refusals().get(by)?.reason !== reason;
    this.#refusals.set(by, { refusal, atMs: bootTimeMs() });
    if (isNews) logger.warn('a member does not listen to this node', { member: name, reason, detail });
    if (reason !== 'removed' && reason !== 'other-cluster') return;
    const { freshAsOfMs } = engine.status();
    // Who has heard from a quorum just now is a member, whatever somebody says.
    if (freshAsOfMs !== null && bootTimeMs() - freshAsOfMs < fenceAfterStaleMs) return;
    await this.#fence(
      reason === 'removed'
        ? `${name} says that this node was removed from the cluster`
        : `${name} went on in a recovered cluster, which left this node behind`,
    );
  }

  /** Key state may have changed. */
  heedRemoval(): void {
    const { state, engine } = this.#options;
    for (const { memberId } of state().formerMembers()) {
      if (memberId === engine.memberId) void this.#fence('this node was removed from the cluster');
    }
  }

  /** One whose state is in doubt must not serve by it after a restart, which forgets how that showed. */
  halted(reason: string): void {
    const { divergent, raft } = this.#options.engine.status();
    if (divergent.length > 0 || raft.lostAcknowledged) void this.#makeDurable(reason);
  }

  async #fence(cause: string): Promise<void> {
    const { standing, dataDir, logger } = this.#options;
    if (standing.fence !== null) return;
    const reason = `${cause}: it does not serve any more. To use this host again, empty ${dataDir}, and add and join it anew`;
    standing.fenced(reason);
    logger.error('fenced off', { reason });
    await this.#makeDurable(reason);
  }

  /** A later start must not serve either: tried until the disk takes it. */
  async #makeDurable(reason: string): Promise<void> {
    const { files, dataDir, wait, logger } = this.#options;
    for (;;) {
      const written = await writeFence(files, dataDir, reason);
      if (written.ok) return;
      logger.error('the fence is not durable yet', { reason: written.error.message });
      if (!(await wait(fenceRetryMs))) return;
    }
  }
}
