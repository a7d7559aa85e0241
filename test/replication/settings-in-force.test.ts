import t from 'tap';
import type { Timers } from '../../src/base/timers.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import type { Command } from '../../src/keystate/types.js';
import { emptyDisk, initialise, openNode } from '../support/durable-node.js';
import { type CommandBody, requestIdAt, startMs } from '../support/founded-cluster.js';
import { MemoryDisk } from '../support/memory-disk.js';
import { SeededRandom } from '../support/seeded-random.js';

const nothing = (): void => {};

/** Each timer rings in its turn, however long it was to be; how long is noted. */
class NotedTimers implements Timers {
  lastMs = 0;

  after(delayMs: number, run: () => void): () => void {
    // Longer than any tick: a deadline, which nothing here is to reach.
    if (delayMs > 500) return nothing;
    this.lastMs = delayMs;
    const turn = setImmediate(run);
    return () => clearImmediate(turn);
  }
}

let requests = 0;

function command(body: CommandBody): Uint8Array {
  requests += 1;
  const requestId = requestIdAt(startMs, requests);
  return encodeCommand({ requestId, atMs: startMs, by: 'uid=0', ...body } as Command);
}

t.test('a node ticks as key state says, over a restart too', async (t) => {
  const disk = new MemoryDisk(emptyDisk, new SeededRandom(1));
  await initialise(disk);
  const open = async (timers: Timers) => {
    const opened = await openNode(disk, new KeyStateMachine(), { timers });
    if (!opened.ok) throw new Error(opened.error.message);
    return opened.value;
  };

  const timers = new NotedTimers();
  const log = await open(timers);
  const founder = { memberId: 'member-1', nodeName: 'node-a', address: 'a:1', format: 2 };
  await log.propose(command({ type: 'cluster.init', clusterId: 'cluster-1', ...founder }), {
    membership: true,
  });
  t.equal(timers.lastMs, 50, 'the default');
  const settings = {
    tickMs: 20,
    electionTicks: 20,
    heartbeatTicks: 3,
    freshnessIntervalMs: 250,
    serveStaleMaxMs: 60_000,
  };
  const set = await log.propose(command({ type: 'cluster.settings', settings }));
  t.match(set, { ok: true, value: { result: { ok: true } } });
  // The tick that was under way is over by then.
  await log.readIndex();
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(timers.lastMs, 20);
  await log.close();

  const after = new NotedTimers();
  const again = await open(after);
  t.equal(after.lastMs, 20, 'before anything new is applied');
  await again.close();
});
