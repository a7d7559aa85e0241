import t from 'tap';
import { Verdict } from '../checkers/verdict.js';
import { beginHistory } from '../history.js';
import { Network } from '../network.js';
import { Random } from '../random.js';
import { registerKind } from '../register-kind.js';
import { drawScenario } from '../scenario.js';
import { realBuild } from '../sim-build.js';
import { Trace } from '../trace.js';
import { World } from '../world.js';
import { SimLink } from './sim-link.js';
import { SimProcess } from './sim-process.js';

function setUp(stalledUntilMs = 0) {
  const scenario = drawScenario(new Random(1), 1);
  const verdict = new Verdict();
  const world = new World({
    scenario,
    build: realBuild,
    kind: registerKind(realBuild, 0),
    network: new Network(scenario.network, 1, new Random(2)),
    trace: new Trace(false),
    verdict,
    history: beginHistory('simulated', verdict),
    random: new Random(3),
  });
  const held = { client: 0 };
  const client = new SimProcess(world, 'client', () => held.client);
  const server = new SimProcess(world, 'server', () => 0);
  const plan = { delayMeanMs: 1, stalledUntilMs: () => stalledUntilMs };
  const link = new SimLink(world, new Random(4), plan, client, server);
  const seen: string[] = [];
  link.client.on('data', (chunk: Buffer) => seen.push(`data ${chunk.toString('latin1')}`));
  link.client.on('close', () => seen.push('close'));
  link.server.on('drain', () => seen.push('drain'));
  const run = (): void => {
    for (let event = world.queue.pop(); event !== null; event = world.queue.pop()) {
      world.nowMs = event.atMs;
      event.run();
    }
  };
  return { world, held, client, server, link, seen, run };
}

const textOf = (seen: readonly string[]): string =>
  seen
    .filter((line) => line.startsWith('data '))
    .map((line) => line.slice('data '.length))
    .join('');

t.test('bytes arrive in order, whatever pieces they come in', async (t) => {
  const { link, seen, run } = setUp();
  const written = Array.from({ length: 200 }, (_, place) => `${place},`);
  for (const text of written) link.server.write(Buffer.from(text));
  run();
  t.equal(textOf(seen), written.join(''));
});

t.test(
  'a process that is stopped gets nothing, and a stalled link carries nothing, before they go on',
  async (t) => {
    const { world, held, link, seen, run } = setUp(500);
    held.client = 900;
    link.server.write(Buffer.from('x'));
    run();
    t.same(seen, ['data x']);
    t.ok(world.nowMs >= 900);
  },
);

t.test('whoever writes more than there is room for is told to wait, and when not to', async (t) => {
  const { link, seen, run } = setUp();
  t.ok(link.server.write(Buffer.alloc(100)));
  t.notOk(link.server.write(Buffer.alloc(10_000)));
  run();
  t.equal(seen.at(-1), 'drain');
  t.equal(link.server.writableLength, 0);
});

t.test('an end is seen by the other side, once, also that of a process', async (t) => {
  const { link, server, seen, run } = setUp();
  server.end();
  link.close(link.server);
  link.close(link.server);
  run();
  t.same(seen, ['close']);
  t.ok(link.isOver);
  t.notOk(link.client.write(Buffer.from('x')));
});
