import type { Logger } from '../base/logger.js';
import { commandFormatMax } from '../keystate/command-format.js';
import type { Config } from '../ops/config.js';
import { eraseJoinSecret } from '../replication/data-directory.js';
import type { ChangeProposer } from './change-proposer.js';
import { peerFormats } from './cluster-peers.js';
import { joinCluster } from './join-cluster.js';
import type { OpenedLog } from './open-log.js';
import type { StandingWatch } from './standing-watch.js';

const memberLookMs = 1_000;
const addressRetryMs = 5_000;

export interface AdmissionOptions {
  readonly config: Pick<Config, 'cluster'>;
  readonly opened: Pick<OpenedLog, 'directory' | 'machine' | 'peers' | 'engine'>;
  readonly standing: Pick<StandingWatch, 'fence'>;
  readonly proposer: ChangeProposer;
  /** Resolves after so many milliseconds; `false` when this process ends first. */
  readonly wait: (ms: number) => Promise<boolean>;
  readonly logger: Logger;
}

/** How this node becomes a member, and how the others learn where it is. */
export class Admission {
  readonly #options: AdmissionOptions;
  #problem: string | null = null;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  /** Why it was not let in when it last asked; `null` when it is in, or has not asked. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Ends once this node is a member whose address the others know, or cannot become one. */
  async run(): Promise<void> {
    await this.#join();
    await this.#tellAddress();
  }

  /** A node that was added shows its token until key state, which then comes, says that it is a member. */
  async #join(): Promise<void> {
    const { config, opened, standing, logger } = this.#options;
    const { directory, machine, peers } = opened;
    const wait = async (ms: number): Promise<boolean> =>
      (await this.#options.wait(ms)) && standing.fence === null;
    const { identity } = directory;
    if (identity.role !== 'joiner' || peers === null || config.cluster === null) return;
    if (standing.fence !== null) return;
    const { joinSecret } = identity.join;
    if (machine.state.member(identity.memberId) === null && joinSecret !== null) {
      await joinCluster({
        join: { ...identity.join, joinSecret },
        request: {
          clusterId: identity.clusterId,
          memberId: identity.memberId,
          nodeName: identity.nodeName,
          advertise: config.cluster.advertise,
          formatMin: peerFormats.min,
          formatMax: commandFormatMax,
        },
        ask: (peer, request) => peers.join(peer, request),
        onWelcome: (members) => {
          this.#problem = null;
          logger.info('this node may join', { members: members.map(({ name }) => name) });
          peers.introduced(members);
        },
        onProblem: (reason, isNews) => {
          this.#problem = reason;
          if (isNews) logger.warn('joining the cluster', { reason });
        },
        wait,
      });
    }
    while (machine.state.member(identity.memberId) === null) {
      if (!(await wait(memberLookMs))) return;
    }
    await eraseJoinSecret(directory).catch((thrown: unknown) => {
      logger.warn('the used join secret could not be erased', { error: thrown });
    });
  }

  /** The others reach this node where its configuration says, once key state has it. */
  async #tellAddress(): Promise<void> {
    const { config, opened, standing, proposer, wait, logger } = this.#options;
    const address = config.cluster?.advertise;
    if (address === undefined || standing.fence !== null) return;
    for (;;) {
      const member = opened.machine.state.member(opened.engine.memberId);
      if (member === null || member.address === address) return;
      const { memberId } = member;
      const told = await proposer.propose(
        { type: 'member.update', memberId, address },
        { by: 'configuration' },
      );
      if (told.ok) return;
      const isRefused = told.error.code !== 'no-quorum' && told.error.code !== 'outcome-unknown';
      logger.warn("the other nodes do not know this node's address yet", {
        address,
        reason: told.error.message,
      });
      if (isRefused || !(await wait(addressRetryMs))) return;
    }
  }
}
