import { join } from 'node:path';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import type { ChaosNode } from '../chaos-node.js';
import { makeNextRelease, nextRelease } from '../next-release.js';

/**
 * Each node once, one after the other: drained, ended, and started with the release at that path. `amid`: when the first
 * has another release than the others.
 */
async function roll(
  { cluster, check, history }: CaseContext,
  xksdPath: string | undefined,
  amid: () => Promise<void> = async () => {},
): Promise<void> {
  for (const [place, node] of cluster.nodes.entries()) {
    history.avoid(node);
    const code = await node.terminate();
    check(code === 0, `${node.name} ended with ${code}`);
    node.start(xksdPath);
    await cluster.converged();
    history.unavoid(node);
    if (place === 0) await amid();
  }
}

/** Either release is led by the other. */
async function leadInTurn({ cluster, check }: CaseContext): Promise<void> {
  for (const node of cluster.nodes.slice(0, 2)) {
    const { status, stderr } = await node.xksctl('cluster', 'transfer', node.name);
    check(status === 0, `cluster transfer ${node.name}: ${stderr}`);
    await cluster.converged();
  }
}

const versionsOf = async ({ cluster }: CaseContext): Promise<string> => {
  const { status } = await cluster.leader();
  return status.members.map(({ version }) => version).join(' ');
};

const stopped = 'replication has stopped on this node';

/** What a node of this release says when it is started on what the next one has written. It serves on, as one cut off. */
async function refusalOf(node: ChaosNode): Promise<string> {
  await node.terminate();
  const from = node.logEnd();
  node.start();
  const line = (): string =>
    node
      .log(from)
      .split('\n')
      .find((each) => each.includes(stopped)) ?? '';
  await eventually(`${node.name} stops at what it cannot read`, () => line() !== '', node.demo.logFile);
  return /"reason":"((?:[^"\\]|\\.)*)"/.exec(line())?.[1] ?? line();
}

export const mixedVersions: ChaosCase = {
  name: 'mixed-versions',
  nodes: 3,
  seconds: 100,
  adminPauseMs: 500,
  last: true,
  async run(context: CaseContext) {
    const { cluster, note, check, history } = context;
    const next = makeNextRelease(join(cluster.directory, 'next-release'));
    const { status: before } = await cluster.leader();
    const [first, second] = cluster.nodes;
    if (first === undefined || second === undefined) throw new Error('there is one node only');

    await roll(context, next, async () => {
      await leadInTurn(context);
      const early = await first.xksctl('cluster', 'upgrade', '--finalize');
      check(
        early.status !== 0 && early.stderr.includes(second.name),
        `an upgrade with members of the release before: ${early.status} ${early.stderr}`,
      );
    });
    note(`all of the next release: ${await versionsOf(context)}`);
    await roll(context, undefined, () => leadInTurn(context));
    note(`all of this release again: ${await versionsOf(context)}`);
    await roll(context, next);

    const { stderr, status } = await first.xksctl('cluster', 'upgrade', '--finalize');
    check(status === 0, `cluster upgrade --finalize: ${status} ${stderr}`);
    await eventually('the next format everywhere', async () => {
      const statuses = await Promise.all(cluster.nodes.map((node) => node.status()));
      return statuses.every((each) => each?.activeFormat === nextRelease.format);
    });
    await cluster.converged();
    note(`format ${before.activeFormat} until then, ${nextRelease.format} since`);

    history.avoid(second);
    const refusal = await refusalOf(second);
    note(`this release afterwards: ${refusal}`);
    check(
      refusal.includes(`formats up to ${before.activeFormat}`),
      'what it says does not name the formats that it knows',
    );
    check(/[Ii]nstall/.test(refusal), 'it does not say what to do');
    await eventually('the others show that it takes no part', async () => {
      const { status: seen } = await cluster.leader(cluster.others(second));
      const findings = seen.members.find(({ name }) => name === second.name)?.findings ?? [];
      return findings.some((finding) => finding.startsWith('silent'));
    });
    await second.terminate();
    second.start(next);
    await cluster.converged();
    history.unavoid(second);
  },
};
