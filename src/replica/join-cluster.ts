import { createHash } from 'node:crypto';
import { z } from 'zod';
import { err, ok, type Result } from '../base/result.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { Join } from '../replication/identity-file.js';
import type { JoinRequest } from '../replication/transport/peer-server.js';
import type { PeerAddress } from '../replication/transport/peer-transport.js';
import type { Change, ChangeProposer } from './change-proposer.js';

/** What a member answers to one that joined: who the others are, for as long as key state is on its way. */
const welcomeSchema = z.object({
  members: z
    .array(z.object({ memberId: z.string().min(1), name: z.string().min(1), address: z.string().min(3) }))
    .min(1)
    .max(64),
});
export type Welcome = z.infer<typeof welcomeSchema>;

const digestOf = (joinSecret: string): string =>
  createHash('sha256').update(Buffer.from(joinSecret, 'hex')).digest('hex');

export interface JoinerOptions {
  readonly join: Join & { readonly joinSecret: string };
  readonly request: Omit<JoinRequest, 'secret'>;
  /** Asks one member. The error is the answer of that member, or why there is none. */
  readonly ask: (peer: Join['peers'][number], request: JoinRequest) => Promise<Result<unknown, string>>;
  readonly onWelcome: (members: readonly PeerAddress[]) => void;
  readonly warn: (message: string) => void;
  /** Resolves after so many milliseconds; `false` when this node ends first. */
  readonly wait: (ms: number) => Promise<boolean>;
}

const retryMs = 1_000;

/** Shows the join token's secret to one member after the other until one lets this node in. */
export async function joinCluster(options: JoinerOptions): Promise<void> {
  const { join, request, ask, onWelcome, warn, wait } = options;
  const said = new Set<string>();
  for (;;) {
    for (const peer of join.peers) {
      const answer = await ask(peer, { ...request, secret: join.joinSecret });
      const welcome = answer.ok ? welcomeSchema.safeParse(answer.value) : null;
      if (welcome?.success === true) {
        onWelcome(welcome.data.members);
        return;
      }
      const problem = `${peer.name} (${peer.address}) does not let this node in: ${answer.ok ? 'its answer is malformed' : answer.error}`;
      if (!said.has(problem)) warn(problem);
      said.add(problem);
    }
    if (!(await wait(retryMs))) return;
  }
}

/** The other side: a member takes a node in that shows the secret of its token. */
export async function welcomeJoiner(
  request: JoinRequest,
  state: () => KeyStateQueries,
  proposer: ChangeProposer,
): Promise<Result<Welcome, string>> {
  const { memberId, nodeName, secret, advertise, formatMax } = request;
  const member = state().member(memberId);
  if (member !== null && member.name !== nodeName) {
    return err(`the join token is for node "${member.name}", and its certificate says "${nodeName}"`);
  }
  if (formatMax < state().activeFormat()) {
    return err(
      `this cluster works with format ${state().activeFormat()}, and that release of xksd reads up to ${formatMax}: install a newer one there`,
    );
  }
  const change: Change = {
    type: 'member.join',
    memberId,
    joinSecretDigest: digestOf(secret),
    address: advertise,
  };
  const joined = await proposer.propose(change, { by: `join of ${nodeName}` });
  if (!joined.ok) return err(joined.error.message);
  const members = [...state().members()]
    .filter(({ status }) => status !== 'invited')
    .map(({ memberId: id, name, address }) => ({ memberId: id, name, address }));
  return ok({ members });
}
