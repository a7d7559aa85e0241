import t from 'tap';
import type { LoopOptions, LoopPorts } from '../../../src/replication/loop-contract.js';
import { ReplicationLoop } from '../../../src/replication/replication-loop.js';
import { realBuild } from '../sim-build.js';
import { Simulation } from '../simulation.js';

// Loops whose outcomes are not those of what was asked: the simulation must refuse them.

type Distortion = <R>(ports: LoopPorts<R>) => Partial<LoopPorts<R>>;

function loopWith(distort: Distortion): typeof ReplicationLoop {
  return class<R> extends ReplicationLoop<R> {
    constructor(options: LoopOptions<R>) {
      super({ ...options, ports: { ...options.ports, ...distort(options.ports) } });
    }
  };
}

const brokenBy = (distort: Distortion, keys: boolean): string | null =>
  new Simulation({
    seed: 1,
    events: 3_000,
    nodes: null,
    keys,
    readable: false,
    build: { ...realBuild, ReplicationLoop: loopWith(distort) },
  }).run().violation?.checker ?? null;

const nothing: Distortion = () => ({});

const proposalsTwice: Distortion = (ports) => ({
  proposed: (proposalId, outcome) => {
    ports.proposed(proposalId, outcome);
    ports.proposed(proposalId, outcome);
  },
});

const readsTwice: Distortion = (ports) => ({
  read: (readId, index) => {
    ports.read(readId, index);
    ports.read(readId, index);
  },
});

/** Each proposal that is done gets the result of the one done before it. */
function resultOfAnother<R>(ports: LoopPorts<R>): Partial<LoopPorts<R>> {
  let before: R | null = null;
  return {
    proposed: (proposalId, outcome) => {
      if (!outcome.ok) {
        ports.proposed(proposalId, outcome);
        return;
      }
      const { value } = outcome;
      ports.proposed(proposalId, { ok: true, value: { ...value, result: before } });
      before = value.result;
    },
  };
}

t.test('outcomes', async (t) => {
  for (const keys of [false, true]) {
    const over = keys ? 'over key state' : 'over registers';
    t.equal(brokenBy(nothing, keys), null, over);
    t.equal(brokenBy(proposalsTwice, keys), 'outcomes', `a proposal settled twice, ${over}`);
    t.equal(brokenBy(resultOfAnother, keys), 'outcomes', `the result of another proposal, ${over}`);
  }
  t.equal(brokenBy(readsTwice, false), 'outcomes', 'a read answered twice');
});
