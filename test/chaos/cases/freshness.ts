import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import { keyStoreName } from '../chaos-cluster.js';
import type { ChaosNode } from '../chaos-node.js';
import { XksCaller } from '../xks-caller.js';
import { replicaBack } from './kills.js';

/** Smallest D, and how much later than that an answer may leave (replication.md, the kill switch contract). */
export const smallestBoundMs = 6_000;
const graceMs = 250;
/** Beyond this age nothing is said to be unknown. */
const unknownTrustedForMs = 2_000;

export async function setOnIsolation(node: ChaosNode, ...rule: readonly string[]): Promise<void> {
  const { status, stderr } = await node.xksctl('keystore', 'set', keyStoreName, '--on-isolation', ...rule);
  if (status !== 0) throw new Error(`keystore set: ${status} ${stderr}`);
}

export const isolationStop: ChaosCase = {
  name: 'isolation-stop',
  nodes: 3,
  seconds: 40,
  async run({ cluster, note, check, random, history }: CaseContext) {
    const { node: leader } = await cluster.leader();
    await setOnIsolation(leader, 'stop', '--bound', String(smallestBoundMs / 1_000));

    // A leader that dies fences nobody: no failure is expected here.
    const pid = leader.signal('replica', 'SIGKILL');
    await replicaBack(leader, pid ?? 0);
    await cluster.converged();

    const { node: now } = await cluster.leader();
    const node = random.pick(cluster.others(now));
    const caller = new XksCaller(cluster.accessTo(node), 1);
    const others = cluster.others(node).map((other) => new XksCaller(cluster.accessTo(other), 1));
    history.avoid(node);
    const over = cluster.load.expect(
      ['unavailable'],
      'the isolated node has stopped, and the balancer had not seen it',
    );
    cluster.links.isolate(node.name);
    const cutMs = Date.now();
    let stoppedMs: number | null = null;
    let servedMs = 0;
    while (Date.now() < cutMs + smallestBoundMs + 4_000) {
      const sentMs = Date.now();
      const [{ status }, ...rest] = await Promise.all([
        caller.encrypt('load-1', 'AAAA', true),
        ...others.map((other) => other.encrypt('load-1', 'AAAA', true)),
      ]);
      check(
        rest.every((answer) => answer.status === 200),
        `a node that was not isolated answered ${rest.map((answer) => answer.status).join(' ')}`,
      );
      if (status === 200) servedMs = sentMs - cutMs;
      else stoppedMs ??= Date.now() - cutMs;
      // Asked after D and the time in which KMS would still take the answer: whatever the machine does, it is too late.
      check(
        status !== 200 || sentMs <= cutMs + smallestBoundMs + graceMs,
        `served ${sentMs - cutMs} ms after it was cut off`,
      );
      await delay(50);
    }
    note(`cut off: last served at ${servedMs} ms, stopped by ${stoppedMs} ms (D is ${smallestBoundMs} ms)`);
    check((await node.health()) !== 200, 'the balancer is not told that the node has stopped');
    cluster.links.heal();
    const healedMs = Date.now();
    await eventually(
      'it serves again',
      async () => (await caller.encrypt('load-1', 'AAAA', true)).status === 200,
    );
    note(`serves ${Date.now() - healedMs} ms after healing`);
    over();
    history.unavoid(node);
    await Promise.all([caller, ...others].map((each) => each.destroy()));
    await setOnIsolation((await cluster.leader()).node, 'serve');
  },
};

export const isolatedFollower: ChaosCase = {
  name: 'isolated-follower',
  nodes: 3,
  seconds: 25,
  async run({ cluster, note, check, random, history }: CaseContext) {
    const { node: leader } = await cluster.leader();
    const node = random.pick(cluster.others(leader));
    const access = cluster.accessTo(node);
    const caller = new XksCaller(access, 1);
    const stranger = new XksCaller({ ...access, accessKeyId: 'NOBODYHASTHISKEYID00' }, 1);
    const elsewhere = new XksCaller({ ...access, uriPathPrefix: 'no/such/store' }, 1);
    history.avoid(node);
    const known = async (): Promise<number> => (await caller.encrypt('load-1', 'AAAA', true)).status;
    const unknown = async (): Promise<readonly number[]> =>
      Promise.all([
        caller.encrypt('never-made', 'AAAA', true),
        stranger.encrypt('load-1', 'AAAA', true),
        elsewhere.encrypt('load-1', 'AAAA', true),
      ]).then((answers) => answers.map(({ status }) => status));

    await eventually('it is current', async () => (await unknown()).join(' ') === '404 401 404');
    cluster.links.isolate(node.name);
    let key = '';
    await eventually('a new key', async () => {
      key = `made-${random.text(10, 'abcdefghij')}`;
      const { node: now } = await cluster.leader(cluster.others(node));
      return (await now.xksctl('key', 'generate', keyStoreName, key)).status === 0;
    });
    await delay(unknownTrustedForMs);
    for (let turn = 0; turn < 10; turn += 1) {
      const answers = await unknown();
      check(
        answers.every((status) => status === 503),
        `what it cannot know: ${answers.join(' ')}`,
      );
      const { status } = await caller.encrypt(key, 'AAAA', true);
      check(status === 503, `a key made since it was cut off: ${status}`);
      check((await known()) === 200, 'a key that it knows');
      await delay(100);
    }
    // A token whose check took long on a busy machine is not well until the next one.
    await eventually('it serves, and says so', async () => (await node.health()) === 200);
    cluster.links.heal();
    await eventually(
      'it knows the new key',
      async () => (await caller.encrypt(key, 'AAAA', true)).status === 200,
    );
    await eventually('it is current again', async () => (await unknown()).join(' ') === '404 401 404');
    note('cut off: 503 for what it cannot know, 200 for what it does; healed: 404 and 401');
    history.unavoid(node);
    await Promise.all([caller, stranger, elsewhere].map((each) => each.destroy()));
  },
};
