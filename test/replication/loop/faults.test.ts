import t from 'tap';
import { type Envelope, type LoopCluster, loopCluster } from '../../support/loop-cluster.js';
import { setCommand } from '../../support/loop-machine.js';
import { SeededRandom } from '../../support/seeded-random.js';

const members = ['a', 'b', 'c'];
const steps = 1_500;

/** Loses, repeats and delays messages. */
function badNetwork(cluster: LoopCluster, random: SeededRandom): void {
  const late: Envelope[] = [];
  cluster.network = (envelope) => {
    const dice = random.integer(100);
    if (dice < 5) return [];
    if (dice < 10) return [envelope, envelope];
    if (dice < 20) {
      late.push(envelope);
      return [];
    }
    if (dice < 25) return [envelope, ...late.splice(random.integer(late.length + 1))];
    return [envelope];
  };
}

/** Who applied what at which index; every member must say the same. */
class History {
  readonly #commands = new Map<number, string>();
  readonly #indexes = new Map<string, number>();
  readonly problems: string[] = [];

  applied(member: string, index: number, command: string): void {
    const before = this.#commands.get(index);
    if (before === undefined) this.#commands.set(index, command);
    else if (before !== command) this.problems.push(`${member} has ${command} at ${index}, others ${before}`);
    if (command === '') return;
    const at = this.#indexes.get(command);
    if (at === undefined) this.#indexes.set(command, index);
    else if (at !== index) this.problems.push(`${command} is at ${at} and at ${index}`);
  }

  has(command: string): boolean {
    return this.#indexes.has(command);
  }
}

t.test('through losses, repetitions, partitions, slow disks and crashes no outcome lies', async (t) => {
  for (let seed = 1; seed <= 12; seed += 1) {
    const random = new SeededRandom(seed);
    const cluster = loopCluster(members, { snapshotEntries: 30, proposalsMax: 64 });
    const history = new History();
    const proposed = new Map<string, string>();
    const read = new Map<string, number>();
    let acknowledgedIndex = 0;
    for (const node of cluster.nodes.values()) {
      node.onApplied = ({ index, command }) =>
        history.applied(node.memberId, index, Buffer.from(command).toString());
    }
    badNetwork(cluster, random);
    for (let step = 0; step < steps; step += 1) {
      const node = cluster.node(random.pick(members));
      const dice = random.integer(100);
      if (dice < 25) {
        const id = `p${step}`;
        proposed.set(id, node.memberId);
        node.loop.propose(id, 'command', setCommand(id, 'x'), 500 + random.integer(3_000));
      } else if (dice < 35) {
        for (const { outcomes } of cluster.nodes.values()) {
          for (const outcome of outcomes.values()) {
            if (outcome.ok) acknowledgedIndex = Math.max(acknowledgedIndex, outcome.value.index);
          }
        }
        read.set(`r${step}`, acknowledgedIndex);
        node.loop.readIndex(`r${step}`, 2_000);
      } else if (dice < 37) {
        const [left, ...others] = random.pick([members, ['b', 'c', 'a'], ['c', 'a', 'b']]);
        cluster.partition([left ?? ''], others);
      } else if (dice < 41) badNetwork(cluster, random);
      else if (dice < 42) node.restart();
      else if (dice < 44) node.slowDisk = !node.slowDisk;
      else if (dice < 54) node.finishWrites();
      else cluster.tick();
      cluster.deliver();
    }
    cluster.heal();
    for (const node of cluster.nodes.values()) {
      node.slowDisk = false;
      node.finishWrites();
    }
    cluster.until(() => {
      const [first, ...others] = [...cluster.nodes.values()];
      const leads = cluster.leader !== null && first !== undefined;
      return leads && others.every(({ machine }) => machine.index === first.machine.index);
    }, `all are caught up with seed ${seed}`);
    cluster.tick(40);
    t.same(history.problems, [], `seed ${seed}`);
    const hashes = new Set([...cluster.nodes.values()].map(({ machine }) => machine.stateHash()));
    t.equal(hashes.size, 1);
    let acknowledged = 0;
    for (const [id, member] of proposed) {
      const outcome = cluster.node(member).outcomes.get(id);
      const present = history.has(`set ${id} x`);
      if (outcome === undefined) t.fail(`${id} has no outcome with seed ${seed}`);
      else if (outcome.ok) {
        acknowledged += 1;
        if (!present) t.fail(`${id} was acknowledged and is lost with seed ${seed}`);
      } else if (outcome.error.kind !== 'unknown' && present) {
        t.fail(`${id} was ${outcome.error.kind} and is there with seed ${seed}`);
      }
    }
    t.ok(acknowledged > 10, `${acknowledged} of ${proposed.size} were acknowledged`);
    for (const { reads } of cluster.nodes.values()) {
      for (const [id, index] of reads) {
        if (index !== null && index < (read.get(id) ?? 0)) t.fail(`${id} is stale with seed ${seed}`);
      }
    }
    for (const { halts } of cluster.nodes.values()) t.same(halts, []);
  }
});
