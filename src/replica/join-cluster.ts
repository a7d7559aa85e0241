import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../base/clock.js';
import { err, ok, type Result } from '../base/result.js';
import { addressProblem } from '../keystate/cluster-checks.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { Join } from '../replication/identity-file.js';
import type { JoinRequest } from '../replication/transport/peer-server.js';
import type { PeerAddress } from '../replication/transport/peer-transport.js';
import type { Change, ChangeProposer } from './change-proposer.js';

const address = z.string().refine((text) => addressProblem(text) === null);

/** What a member answers to one that joined: who the others are, for as long as key state is on its way. */
const welcomeSchema = z.object({
  members: z
    .array(z.object({ memberId: z.string().min(1), name: z.string().min(1), address }))
    .min(1)
    .max(64),
});
export type Welcome = z.infer<typeof welcomeSchema>;

/** 32 bytes, hexadecimal. */
const secretPattern = /^[0-9a-f]{64}$/;
const joinsUnderWayMax = 4;

const digestOf = (joinSecret: string): string =>
  createHash('sha256').update(Buffer.from(joinSecret, 'hex')).digest('hex');

export interface JoinerOptions {
  readonly join: Join & { readonly joinSecret: string };
  readonly request: Omit<JoinRequest, 'secret'>;
  /** Asks one member. The error is the answer of that member, or why there is none. */
  readonly ask: (peer: Join['peers'][number], request: JoinRequest) => Promise<Result<unknown, string>>;
  readonly onWelcome: (members: readonly PeerAddress[]) => void;
  /** Why this node is not let in. `isNews`: for the first time. */
  readonly onProblem: (reason: string, isNews: boolean) => void;
  /** Resolves after so many milliseconds; `false` when this node ends first. */
  readonly wait: (ms: number) => Promise<boolean>;
}

/** Doubling: one with a token that is of no use asks until somebody looks. */
const retryFirstMs = 500;
const retryMsMax = 30_000;

/** Shows the join token's secret to one member after the other until one lets this node in. */
export async function joinCluster(options: JoinerOptions): Promise<void> {
  const { join, request, ask, onWelcome, onProblem, wait } = options;
  const said = new Set<string>();
  for (let retryMs = retryFirstMs; ; retryMs = Math.min(2 * retryMs, retryMsMax)) {
    for (const peer of join.peers) {
      const answer = await ask(peer, { ...request, secret: join.joinSecret });
      const welcome = answer.ok ? welcomeSchema.safeParse(answer.value) : null;
      if (welcome?.success === true) {
        onWelcome(welcome.data.members);
        return;
      }
      const problem = `${peer.name} (${peer.address}) does not let this node in: ${answer.ok ? 'its answer is malformed' : answer.error}`;
      onProblem(problem, !said.has(problem));
      said.add(problem);
    }
    if (!(await wait(retryMs))) return;
  }
}

/** The other side: a member takes nodes in that show the secret of their token, one at a time. */
export class Welcomes {
  readonly #state: () => KeyStateQueries;
  readonly #proposer: ChangeProposer;
  readonly #clock: Clock;
  /** Members on their way in through this node. */
  readonly #underWay = new Set<string>();

  constructor(state: () => KeyStateQueries, proposer: ChangeProposer, clock: Clock) {
    this.#state = state;
    this.#proposer = proposer;
    this.#clock = clock;
  }

  async welcome(request: JoinRequest): Promise<Result<Welcome, string>> {
    const { memberId, secret, advertise } = request;
    // Whoever has a certificate may ask: nothing gets into the log before it is known to be true here.
    const obstacle = joinObstacle(this.#state(), request, this.#clock.wallMs());
    if (obstacle !== null) return err(obstacle);
    if (this.#underWay.has(memberId)) return err('this node is being let in already; ask again');
    if (this.#underWay.size >= joinsUnderWayMax) return err('other nodes are being let in; ask again');
    this.#underWay.add(memberId);
    try {
      const change: Change = {
        type: 'member.join',
        memberId,
        joinSecretDigest: digestOf(secret),
        address: advertise,
      };
      const joined = await this.#proposer.propose(change, { by: `join of ${request.nodeName}` });
      if (!joined.ok) return err(joined.error.message);
      // By state that is certainly as new as the join: the format may have risen since this node looked, or before, unseen.
      const tooOld = formatObstacle(this.#state(), request.formatMax);
      if (tooOld !== null) return err(await this.#takeOut(request, tooOld));
    } finally {
      this.#underWay.delete(memberId);
    }
    const members = [...this.#state().members()]
      .filter(({ status }) => status !== 'invited')
      .map(({ memberId: id, name, address }) => ({ memberId: id, name, address }));
    return ok({ members });
  }

  /** @returns what the node is told that was let in, and can't stay. */
  async #takeOut({ memberId, nodeName }: JoinRequest, reason: string): Promise<string> {
    const change: Change = { type: 'member.remove', memberId };
    const removed = await this.#proposer.propose(change, { by: `join of ${nodeName}` });
    return removed.ok
      ? `${reason}, and invite it anew (xksctl cluster add ${nodeName}): its invitation is used up`
      : `${reason}, and remove "${nodeName}" (xksctl cluster remove ${nodeName}): it was let in meanwhile, and could not be taken out again (${removed.error.message})`;
  }
}

/** Why a node may not join, as far as the member asked knows; key state has the last word. `null`: it may. */
export function joinObstacle(
  state: KeyStateQueries,
  { memberId, nodeName, secret, formatMax }: JoinRequest,
  wallMs: number,
): string | null {
  const member = state.member(memberId);
  if (member === null) {
    return 'no such invitation is known here: it was withdrawn or used up, or is so new that it has not come yet; make another one (xksctl cluster add)';
  }
  if (member.name !== nodeName) {
    return `the join token is for node "${member.name}", and its certificate says "${nodeName}"`;
  }
  if (member.status === 'voter') {
    return `member "${member.name}" has joined already and its join token is used: if this is another machine, remove that member and invite it anew`;
  }
  if (!secretPattern.test(secret) || member.joinSecretDigest !== digestOf(secret)) {
    return `the join token is not the one made for member "${member.name}"`;
  }
  if (member.status === 'invited' && wallMs >= member.inviteExpiresAtMs) {
    return `the join token of "${member.name}" has expired: make another (xksctl cluster add ${member.name})`;
  }
  return formatObstacle(state, formatMax);
}

function formatObstacle(state: KeyStateQueries, formatMax: number): string | null {
  if (formatMax < state.activeFormat()) {
    return `this cluster works with format ${state.activeFormat()}, and that release of xksd reads up to ${formatMax}: install a newer one there`;
  }
  return null;
}
