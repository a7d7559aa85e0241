import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import t from 'tap';
import { snapshotChunkBytes } from '../../../src/replication/peer-message.js';
import { type Envelope, type LoopCluster, loopCluster } from '../../support/loop-cluster.js';
import { membersCommand, setCommand } from '../../support/loop-machine.js';
import type { LoopNode } from '../../support/loop-node.js';
import { SeededRandom } from '../../support/seeded-random.js';

const limits = { snapshotEntries: 20, commandBytesMax: 1024 * 1024 };
/** Of each of the values that make a snapshot long. */
const valueBytes = 100 * 1024;

/** Three members, `c` cut off while `values` long values are set and a snapshot compacts them. */
function clusterWithLaggard(values: number): LoopCluster {
  const cluster = loopCluster(['a', 'b', 'c'], limits);
  cluster.partition(['a', 'b']);
  const a = cluster.node('a');
  for (let n = 0; n < values; n += 1) {
    cluster.propose(a, `value ${n}`, setCommand(`v${n}`, `${n}`, valueBytes));
  }
  for (let n = 0; a.loop.status().snapshotIndex < values; n += 1) {
    cluster.propose(a, `fill ${n}`, setCommand('fill', `${n}`));
  }
  return cluster;
}

function exposedGarbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

const isChunk = (envelope: Envelope): boolean => envelope.message.kind === 'snapshotChunk';

function caughtUp(cluster: LoopCluster, node: LoopNode): () => boolean {
  const a = cluster.node('a');
  return () => node.machine.index === a.machine.index && node.machine.stateHash() === a.machine.stateHash();
}

t.test(
  'a snapshot is saved after so many entries, one at a time, and the log before it forgotten',
  async (t) => {
    const cluster = loopCluster(['a'], limits);
    const a = cluster.node('a');
    a.slowSnapshots = true;
    for (let n = 0; n < 60; n += 1) cluster.propose(a, `p${n}`, setCommand('x', `${n}`));
    t.same(
      a.savedSnapshots.map(({ index }) => index),
      [20],
      'the second waits for the first',
    );
    t.equal(a.loop.status().raft.firstIndex, 1);
    t.equal(a.loop.status().snapshotIndex, 0);
    a.slowSnapshots = false;
    a.finishWrites();
    t.equal(a.loop.status().snapshotIndex, 20);
    t.equal(a.loop.status().raft.firstIndex, 19, 'but for a tail');
    cluster.propose(a, 'q', setCommand('x', 'q'));
    t.same(
      a.savedSnapshots.map(({ index }) => index),
      [20, 62],
    );
    a.restart();
    t.equal(a.machine.values.get('x'), 'q');
  },
);

t.test('a snapshot is saved after so many bytes', async (t) => {
  const cluster = loopCluster(['a'], { snapshotBytes: 10_000 });
  const a = cluster.node('a');
  for (let n = 0; n < 9; n += 1) cluster.propose(a, `p${n}`, setCommand('x', `${n}`, 1_000));
  t.equal(a.savedSnapshots.length, 0);
  cluster.propose(a, 'q', setCommand('x', 'q', 1_000));
  t.equal(a.savedSnapshots.length, 1);
});

t.test('members save theirs at different entries, the later joined the earlier', async (t) => {
  const joined = ['c', 'a', 'b'];
  const cluster = loopCluster(joined, limits);
  for (let n = 0; n < 25; n += 1) cluster.propose(cluster.node('c'), `p${n}`, setCommand('x', `${n}`));
  t.strictSame(
    joined.map((memberId) => cluster.node(memberId).savedSnapshots.map(({ index }) => index)),
    [[20], [19], [17]],
  );
});

t.test('one that is far behind gets a snapshot in chunks, and the log after it', async (t) => {
  const cluster = clusterWithLaggard(10);
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  const chunks: number[] = [];
  let onTheWay = 0;
  cluster.network = (envelope) => {
    const { message } = envelope;
    if (message.kind === 'snapshotChunk') {
      chunks.push(message.data.byteLength);
      onTheWay += 1;
      t.equal(onTheWay, 1, 'one chunk at a time');
    } else if (message.kind === 'snapshotChunkResponse') onTheWay -= 1;
    return [envelope];
  };
  cluster.until(caughtUp(cluster, c), 'c is caught up');
  t.equal(c.restored.length, 1);
  t.ok((c.restored[0] ?? 0) >= a.loop.status().snapshotIndex);
  t.equal(chunks.length, 4);
  t.ok(chunks.slice(0, 3).every((bytes) => bytes === snapshotChunkBytes));
  t.equal(c.loop.status().snapshotIndex, c.restored[0]);
  cluster.propose(c, 'after', setCommand('x', 'after'));
  t.equal(c.machine.values.get('x'), 'after');
  cluster.partition();
  c.restart();
  t.equal(c.machine.values.get('v9')?.length, valueBytes + 1, 'and it is durable');
});

t.test('a snapshot is taken in chunk by chunk, and in force in one step once it is durable', async (t) => {
  const cluster = clusterWithLaggard(10);
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  const before = { index: c.machine.index, hash: c.machine.stateHash() };
  const takenIn: number[] = [];
  cluster.network = (envelope) => {
    if (envelope.message.kind === 'snapshotChunkResponse') takenIn.push(c.machine.recordsTakenIn);
    return [envelope];
  };
  c.slowDisk = true;
  cluster.until(() => takenIn.length === 4, 'all chunks have come');
  cluster.tick(20);
  // A header, 10 long values and a short one: about two and a half of them a chunk.
  t.same(takenIn, [3, 6, 8, 12]);
  t.same({ index: c.machine.index, hash: c.machine.stateHash() }, before, 'nothing is in force yet');
  t.equal(c.restored.length, 0);
  c.finishWrites();
  t.equal(c.restored.length, 1);
  t.equal(c.machine.index, c.restored[0]);
  c.slowDisk = false;
  cluster.until(() => {
    c.finishWrites();
    return caughtUp(cluster, c)();
  }, 'c is caught up');
  t.equal(a.machine.values.size, 11);
});

t.test('chunks that are lost, repeated and overtaken change nothing but the time', async (t) => {
  for (let seed = 1; seed <= 8; seed += 1) {
    const cluster = clusterWithLaggard(8);
    const c = cluster.node('c');
    const random = new SeededRandom(seed);
    const late: Envelope[] = [];
    cluster.network = (envelope) => {
      const { kind } = envelope.message;
      if (kind !== 'snapshotChunk' && kind !== 'snapshotChunkResponse') return [envelope];
      const dice = random.integer(10);
      if (dice < 2) return [];
      if (dice < 4) return [envelope, envelope];
      if (dice < 6) late.push(envelope);
      if (dice === 9) return [envelope, ...late.splice(0)];
      return [envelope];
    };
    cluster.until(caughtUp(cluster, c), `c is caught up with seed ${seed}`, 2_000);
    t.same(c.warnings, []);
    t.equal(c.halts.length, 0);
  }
});

t.test('after a loss the transfer goes on from where the receiver is', async (t) => {
  const cluster = clusterWithLaggard(10);
  const c = cluster.node('c');
  const offsets: number[] = [];
  cluster.network = (envelope) => {
    if (envelope.message.kind === 'snapshotChunk') offsets.push(envelope.message.offset);
    // The third chunk is lost twice.
    return isChunk(envelope) && (offsets.length === 3 || offsets.length === 4) ? [] : [envelope];
  };
  cluster.until(caughtUp(cluster, c), 'c is caught up');
  t.same(
    offsets.map((offset) => offset / snapshotChunkBytes),
    [0, 1, 2, 2, 2, 3],
  );
});

t.test('a receiver that restarts in between gets all of it again', async (t) => {
  const cluster = clusterWithLaggard(10);
  const c = cluster.node('c');
  let chunks = 0;
  cluster.network = (envelope) => {
    if (isChunk(envelope)) chunks += 1;
    return isChunk(envelope) && chunks === 3 ? [] : [envelope];
  };
  cluster.until(() => chunks === 3, 'three chunks');
  c.restart();
  cluster.until(caughtUp(cluster, c), 'c is caught up');
  t.ok(chunks >= 7);
});

t.test('one that ends in between keeps nothing of a snapshot that was on its way', async (t) => {
  const collectGarbage = exposedGarbageCollector();
  for (const [name, chunks] of [
    ['comes in', 2],
    ['is being made durable', 4],
  ] as const) {
    const cluster = clusterWithLaggard(10);
    const c = cluster.node('c');
    const { machine } = c;
    const beginRestore = machine.beginRestore.bind(machine);
    let kept: WeakRef<object> | null = null;
    machine.beginRestore = () => {
      const restoration = beginRestore();
      kept = new WeakRef(restoration);
      return restoration;
    };
    let answers = 0;
    cluster.network = (envelope) => {
      if (envelope.message.kind === 'snapshotChunkResponse') answers += 1;
      return isChunk(envelope) && answers >= chunks ? [] : [envelope];
    };
    c.slowDisk = true;
    cluster.until(() => answers === chunks, 'chunks have come');
    const held = (): boolean => (kept as WeakRef<object> | null)?.deref() !== undefined;
    // What a weak reference was made for, or gave, lives until the turn of the event loop ends.
    await setImmediate();
    collectGarbage();
    t.equal(held(), true, `a snapshot ${name}`);
    c.loop.stop();
    // Of the disk that this process had.
    c.writes.length = 0;
    await setImmediate();
    collectGarbage();
    t.equal(held(), false, `none ${name} any more`);
    t.equal(c.restored.length, 0);
    t.not(c.loop.status().raft.role, 'leader', 'the loop itself is still there');
  }
});

t.test('two that are behind share one snapshot', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c', 'd', 'e'], limits);
  cluster.partition(['a', 'b', 'c']);
  const a = cluster.node('a');
  for (let n = 0; n < 45; n += 1) cluster.propose(a, `p${n}`, setCommand('x', `${n}`));
  let captured = 0;
  const snapshot = a.machine.snapshot.bind(a.machine);
  a.machine.snapshot = () => {
    captured += 1;
    return snapshot();
  };
  const to = new Set<string>();
  cluster.network = (envelope) => {
    if (!isChunk(envelope)) return [envelope];
    to.add(envelope.to);
    // Held until both have asked.
    return to.size < 2 ? [] : [envelope];
  };
  const [d, e] = [cluster.node('d'), cluster.node('e')];
  cluster.until(() => caughtUp(cluster, d)() && caughtUp(cluster, e)(), 'both are caught up');
  t.equal(captured, 1);
  t.same(d.restored, e.restored);
});

t.test('the transfer ends with the leadership, and the next leader begins its own', async (t) => {
  const cluster = clusterWithLaggard(10);
  const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')];
  let chunks = 0;
  cluster.network = (envelope) => {
    if (isChunk(envelope)) chunks += 1;
    return isChunk(envelope) && envelope.from === 'a' && chunks > 1 ? [] : [envelope];
  };
  cluster.until(() => chunks > 1, 'chunks');
  a.loop.transferLeadership('b');
  cluster.until(() => b.role === 'leader', 'b leads');
  cluster.tick(2);
  const sentByA: Envelope[] = [];
  cluster.network = (envelope) => {
    if (isChunk(envelope) && envelope.from === 'a') sentByA.push(envelope);
    return [envelope];
  };
  cluster.until(caughtUp(cluster, c), 'c is caught up');
  cluster.tick(30);
  t.equal(sentByA.length, 0);
});

t.test('a snapshot whose bytes were changed on the way is refused, and sent again', async (t) => {
  const cluster = clusterWithLaggard(4);
  const c = cluster.node('c');
  let changed = false;
  cluster.network = (envelope) => {
    const { message } = envelope;
    if (message.kind !== 'snapshotChunk' || changed) return [envelope];
    changed = true;
    const data = Uint8Array.from(message.data);
    data[1_000] = (data[1_000] ?? 0) ^ 1;
    return [{ ...envelope, message: { ...message, data } }];
  };
  cluster.until(caughtUp(cluster, c), 'c is caught up');
  t.match(c.warnings, [/a snapshot as of index \d+ from member a can't be taken: its digest is another/]);
  t.equal(c.restored.length, 1);
});

t.test('a snapshot is durable before it is restored, and restored before anything is sent', async (t) => {
  const cluster = clusterWithLaggard(1);
  const c = cluster.node('c');
  c.slowDisk = true;
  const sent: Envelope[] = [];
  const settle = (): void => {
    // Whatever else it has to write on the way.
    while (c.snapshot.index === 0 && c.writes.length > 0 && c.loop.status().raft.firstIndex === 1) {
      c.finishWrites();
      cluster.deliver();
    }
  };
  cluster.heal();
  cluster.until(() => {
    settle();
    return c.loop.status().raft.firstIndex > 1;
  }, 'c took the snapshot');
  settle();
  t.same(c.restored, []);
  t.equal(c.snapshot.index, 0);
  cluster.network = (envelope) => {
    if (envelope.from === 'c' && envelope.message.kind === 'raft') sent.push(envelope);
    return [envelope];
  };
  cluster.tick(3);
  t.equal(sent.length, 0);
  while (c.writes.length > 0) {
    c.finishWrites();
    cluster.deliver();
  }
  t.equal(c.restored.length, 1);
  t.ok(sent.length > 0);
});

t.test('a proposal whose entry a snapshot jumped over is unknown', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c'], limits);
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  cluster.network = (envelope) =>
    envelope.to === 'c' && envelope.message.kind !== 'proposeResponse' ? [] : [envelope];
  c.loop.propose('p', 'command', setCommand('x', '1'), 600_000);
  cluster.deliver();
  cluster.until(() => a.machine.values.get('x') === '1', 'the leader has it');
  for (let n = 0; n < 45; n += 1) cluster.propose(a, `p${n}`, setCommand('y', `${n}`));
  t.equal(c.outcomes.has('p'), false);
  cluster.heal();
  cluster.until(() => c.outcomes.has('p'), 'the outcome');
  t.match(c.outcomes.get('p'), { ok: false, error: { kind: 'unknown' } });
  t.equal(c.restored.length, 1);
});

t.test('a joiner gets the members with its snapshot', async (t) => {
  const cluster = loopCluster(['a'], limits);
  const a = cluster.node('a');
  for (let n = 0; n < 45; n += 1) cluster.propose(a, `p${n}`, setCommand('x', `${n}`));
  const d = cluster.add('d');
  cluster.propose(a, 'add', membersCommand(['a'], ['d']), 'membership');
  cluster.until(caughtUp(cluster, d), 'd is caught up');
  t.equal(d.restored.length, 1);
  t.same(d.memberships, [{ voters: ['a'], learners: ['d'] }]);
  t.same(d.loop.status().raft.membership, { voters: ['a'], learners: ['d'] });
});

t.test('a snapshot that the state machine can not take halts this member', async (t) => {
  const cluster = clusterWithLaggard(1);
  const c = cluster.node('c');
  c.machine.restore = () => {
    throw new Error('format 9');
  };
  cluster.heal();
  cluster.until(() => c.halts.length > 0, 'c halts');
  t.match(c.halts, [/the snapshot as of index \d+ that the leader sent can't be taken.*format 9/]);
});

t.test('a leader that never heard that its snapshot was taken learns how far the member is', async (t) => {
  const cluster = clusterWithLaggard(1);
  const c = cluster.node('c');
  cluster.network = (envelope) => {
    const { from, message } = envelope;
    const heard =
      message.kind === 'snapshotChunkResponse' ||
      (message.kind === 'raft' && message.message.kind === 'appendResponse' && !message.message.rejected);
    return from === 'c' && heard ? [] : [envelope];
  };
  cluster.until(() => c.restored.length > 0, 'c took the snapshot');
  cluster.tick(3);
  c.restart();
  cluster.heal();
  cluster.until(
    () =>
      cluster
        .node('a')
        .loop.status()
        .raft.progress.every(({ state }) => state === 'replicate'),
    'entries again',
  );
  t.ok(caughtUp(cluster, c)());
  t.equal(c.restored.length, 1);
});

t.test('the log that a member will need after its snapshot is kept meanwhile', async (t) => {
  const cluster = clusterWithLaggard(1);
  const [a, c] = [cluster.node('a'), cluster.node('c')];
  let held: Envelope | null = null;
  cluster.network = (envelope) => {
    if (!isChunk(envelope) || held !== null) return isChunk(envelope) ? [] : [envelope];
    held = envelope;
    return [];
  };
  cluster.until(() => held !== null, 'a chunk');
  const { snapshotIndex } = a.loop.status();
  for (let n = 0; a.loop.status().snapshotIndex === snapshotIndex; n += 1) {
    cluster.propose(a, `more ${n}`, setCommand('y', `${n}`));
  }
  cluster.heal();
  cluster.until(caughtUp(cluster, c), 'c is caught up');
  t.equal(c.restored.length, 1, 'one snapshot was enough');
});

t.test('a snapshot message without its bytes is nothing', async (t) => {
  const cluster = loopCluster(['a', 'b', 'c']);
  const { term } = cluster.node('a').loop.status().raft;
  const message = {
    kind: 'snapshot',
    from: 'a',
    to: 'b',
    term,
    position: { index: 1_000, term },
    membership: { voters: ['b'], learners: [] },
  } as const;
  cluster.inject({ from: 'a', to: 'b', message: { kind: 'raft', message } });
  t.ok(cluster.node('b').loop.status().raft.commitIndex < 1_000);
});
