import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../../support/running-node.js';
import { type CaseContext, type ChaosCase, drawnMs } from '../chaos-case.js';
import type { ChaosNode } from '../chaos-node.js';

/** A leader that nobody hears must know it (CheckQuorum). */
const stepsDown = (node: ChaosNode): Promise<void> =>
  eventually(`${node.name} steps down`, async () => (await node.status())?.role !== 'leader');

export const isolateLeader: ChaosCase = {
  name: 'isolate-leader',
  nodes: 3,
  seconds: 30,
  async run({ cluster, note, random, deadlineMs }: CaseContext) {
    let turns = 0;
    do {
      const { node, status } = await cluster.leader();
      cluster.links.isolate(node.name);
      await cluster.leader(cluster.others(node), status.term);
      await stepsDown(node);
      await delay(drawnMs(random, 100, 5_000));
      cluster.links.heal();
      await delay(drawnMs(random, 100, 2_000));
      turns += 1;
    } while (performance.now() < deadlineMs);
    note(`${turns} leaders isolated`);
  },
};

/** `count` nodes, the leader or not among them as drawn. */
function drawNodes({ cluster, random }: CaseContext, count: number): readonly ChaosNode[] {
  const left = [...cluster.nodes];
  return Array.from({ length: count }, () => {
    const node = random.pick(left);
    left.splice(left.indexOf(node), 1);
    return node;
  });
}

const namesOf = (nodes: readonly ChaosNode[]): readonly string[] => nodes.map(({ name }) => name);

export const majority: ChaosCase = {
  name: 'majority',
  nodes: 5,
  seconds: 30,
  async run(context: CaseContext) {
    const { cluster, note, random, deadlineMs } = context;
    let turns = 0;
    do {
      const minority = drawNodes(context, 2);
      const rest = cluster.others(...minority);
      cluster.links.partition(namesOf(minority), namesOf(rest));
      await cluster.leader(rest);
      for (const node of minority) await stepsDown(node);
      await delay(drawnMs(random, 500, 5_000));
      cluster.links.heal();
      await delay(drawnMs(random, 100, 2_000));
      turns += 1;
    } while (performance.now() < deadlineMs);
    note(`${turns} times two of five cut off`);
  },
};

export const bridge: ChaosCase = {
  name: 'bridge',
  nodes: 5,
  seconds: 25,
  async run(context: CaseContext) {
    const { cluster, note, random, deadlineMs } = context;
    let turns = 0;
    do {
      const [middle, ...some] = drawNodes(context, 3);
      if (middle === undefined) return;
      const rest = cluster.others(middle, ...some);
      cluster.links.partition(namesOf([middle, ...some]), namesOf([middle, ...rest]));
      await cluster.leader();
      await delay(drawnMs(random, 1_000, 6_000));
      cluster.links.heal();
      await delay(drawnMs(random, 100, 2_000));
      turns += 1;
    } while (performance.now() < deadlineMs);
    note(`${turns} times two pairs met in one node only`);
  },
};

export const oneWay: ChaosCase = {
  name: 'one-way',
  nodes: 3,
  seconds: 30,
  async run({ cluster, note, random, deadlineMs }: CaseContext) {
    let turns = 0;
    do {
      const { node: leader } = await cluster.leader();
      const others = cluster.others(leader);
      switch (turns % 4) {
        case 0:
          // Heard by nobody, though it hears all.
          for (const other of others) cluster.links.cut(leader.name, other.name);
          break;
        case 1:
          // Hears nobody, though all hear it: it must not lead on.
          for (const other of others) cluster.links.cut(other.name, leader.name);
          await stepsDown(leader);
          break;
        case 2:
          cluster.links.cut(leader.name, random.pick(others).name);
          break;
        default:
          cluster.links.cut(random.pick(others).name, leader.name);
      }
      await delay(drawnMs(random, 1_000, 6_000));
      await cluster.leader();
      cluster.links.heal();
      await delay(drawnMs(random, 100, 2_000));
      turns += 1;
    } while (performance.now() < deadlineMs);
    note(`${turns} cuts of one direction`);
  },
};

export const slowLinks: ChaosCase = {
  name: 'slow-links',
  nodes: 3,
  seconds: 20,
  async run({ cluster, note, random, deadlineMs }: CaseContext) {
    let turns = 0;
    do {
      for (const from of cluster.nodes) {
        for (const to of cluster.others(from)) cluster.links.delay(from.name, to.name, random.integer(120));
      }
      await delay(drawnMs(random, 1_000, 5_000));
      turns += 1;
    } while (performance.now() < deadlineMs);
    cluster.links.heal();
    note(`${turns} sets of delays up to 120 ms`);
  },
};
