import t from 'tap';
import { ivLimits } from '../../src/keystate/iv-budget.js';
import { IvWorld, ivObject } from '../support/iv-world.js';
import { SeededRandom } from '../support/seeded-random.js';

const blockMin = 2 ** 12;

t.test('the first encryptions are reported within 50 ms, and a block is reserved behind them', async (t) => {
  const world = new IvWorld();
  const one = world.node().start('p-1');
  t.equal(one.mayEncrypt, true, 'and nothing is waited for');
  one.encrypt(3);
  await world.pass(50);
  t.equal(world.reserved, 3 + blockMin);
  one.encrypt(blockMin / 2 - 1);
  await world.pass(600_000, 1_000);
  t.equal(world.reserved, 3 + blockMin, 'it lasts');
  one.encrypt(1);
  await world.pass(50);
  t.equal(world.reserved, 3 + 2 * blockMin, 'half of it is used: the next one');
  t.equal(world.proposed.length, 2);
});

t.test('a process that dies leaves too high a count, by a block at most', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  for (let life = 1; life <= 5; life += 1) {
    const process = node.start(`p-${life}`);
    process.encrypt(100);
    await world.pass(50);
    process.encrypt(500);
    process.kill();
    t.ok(world.reserved >= world.made);
    t.ok(world.reserved - world.made <= life * 2 ** 16, 'ten minutes at 100/s');
  }
});

t.test('a block grows with the rate of its process', async (t) => {
  const world = new IvWorld();
  const one = world.node().start('p-1');
  for (let second = 0; second < 120; second += 1) {
    one.encrypt(900);
    await world.pass(1_000, 100);
    t.ok(world.reserved >= world.made);
  }
  t.strictSame(world.proposed, [[{ objectId: ivObject, used: 900, ahead: 2 ** 20 }]], 'one, for two minutes');
});

t.test('without a quorum it counts on, and reports what it used as soon as there is one', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  const one = node.start('p-1');
  one.encrypt(10);
  await world.pass(50);
  world.quorum = 'gone';
  for (let second = 0; second < 60; second += 1) {
    t.equal(one.mayEncrypt, true);
    one.encrypt(1_000);
    await world.pass(1_000, 250);
  }
  const missing = world.made - world.reserved;
  t.ok(missing > 50_000);
  t.ok(
    node.reservations.unreservedOf(ivObject) >= missing - 1_000,
    'as the replica knows it: a report old at most',
  );
  t.equal(node.reservations.unreserved(), node.reservations.unreservedOf(ivObject));
  t.ok(world.proposed.length < 20, 'not an attempt every second');
  world.quorum = 'there';
  await world.pass(7_000);
  t.ok(world.reserved >= world.made);
  t.ok(world.reserved - world.made <= 2 ** 20);
  await world.pass(1_000);
  t.equal(node.reservations.unreserved(), 0);
});

t.test('what a process used without a quorum is counted after its death', async (t) => {
  const world = new IvWorld();
  const one = world.node().start('p-1');
  world.quorum = 'gone';
  one.encrypt(5_000);
  await world.pass(2_000);
  one.kill();
  await world.pass(10_000);
  t.equal(world.reserved, 0);
  world.quorum = 'there';
  await world.pass(6_000);
  t.equal(world.reserved, 5_000, 'without a block, which nobody would use');
  await world.pass(20_000);
  t.equal(world.reserved, 5_000, 'once');
});

t.test(
  'a reservation whose outcome is unknown is not lost, nor asked for again once it is seen',
  async (t) => {
    const world = new IvWorld();
    const node = world.node();
    const one = node.start('p-1');
    world.quorum = 'unknown';
    one.encrypt(6);
    await world.pass(50);
    t.equal(world.reserved, 6 + blockMin);
    await world.pass(30_000);
    t.equal(world.reserved, 6 + blockMin);
    t.equal(node.reservations.unreserved(), 0);
    one.kill();
    await world.pass(10_000);
    t.equal(world.reserved, 6 + blockMin, 'nothing was left behind');
  },
);

t.test('a link that goes and comes may have something counted twice, and nothing not at all', async (t) => {
  const world = new IvWorld();
  const one = world.node().start('p-1');
  world.quorum = 'gone';
  one.encrypt(400);
  await world.pass(1_000);
  one.unlink();
  one.encrypt(100);
  await world.pass(1_000);
  one.link();
  world.quorum = 'there';
  await world.pass(8_000);
  t.ok(world.reserved >= world.made);
  t.ok(world.reserved <= world.made + 400 + 2 * 2 ** 18);
});

t.test('nothing is sent or proposed before all members know of it, and then all of it', async (t) => {
  const world = new IvWorld({ format: 2 });
  const one = world.node().start('p-1');
  one.encrypt(9_000);
  await world.pass(10_000);
  t.equal(one.frames, 0);
  t.strictSame(world.proposed, []);
  world.apply({ type: 'cluster.upgrade', format: 3 });
  await world.pass(1_000);
  t.ok(world.reserved >= world.made + blockMin);
});

t.test('the replica does not propose either what the cluster does not know yet', async (t) => {
  const world = new IvWorld({ format: 2 });
  const { reservations } = world.node();
  const hello = { processId: 'p-1' } as Parameters<typeof reservations.onIvWants>[1];
  reservations.onIvWants(null, hello, {
    appliedIndex: 1,
    reservations: [{ objectId: ivObject, used: 1, ahead: 0 }],
  });
  await world.pass(1_000);
  t.strictSame(world.proposed, []);
  t.equal(reservations.unreserved(), 1);
});

t.test('at the end nobody encrypts any more, and little is lost in blocks', async (t) => {
  const encryptionsMax = 100_000;
  const world = new IvWorld({ encryptionsMax });
  const node = world.node();
  const all = [node.start('p-1'), node.start('p-2'), world.node().start('p-3')];
  for (const each of all) each.encrypt(1);
  await world.pass(100);
  for (let round = 0; round < 5_000; round += 1) {
    for (const each of all) if (each.mayEncrypt) each.encrypt(1);
    if (round % 10 === 0) await world.pass(50);
  }
  for (let round = 0; round < 200_000 && all.some(({ mayEncrypt }) => mayEncrypt); round += 1) {
    for (const each of all) if (each.mayEncrypt) each.encrypt(1);
    if (round % 100 === 0) await world.pass(50);
  }
  t.strictSame(
    all.map(({ mayEncrypt }) => mayEncrypt),
    [false, false, false],
  );
  t.ok(world.made <= encryptionsMax, `${world.made}`);
  t.ok(world.made >= encryptionsMax - all.length * blockMin, `${world.made}`);
  t.ok(world.reserved >= world.made);
  const { reserved, proposed } = world;
  const commands = proposed.length;
  await world.pass(60_000, 1_000);
  t.equal(world.reserved, reserved, 'nothing more is reserved where nothing may be used');
  t.equal(world.proposed.length, commands);

  world.apply({ type: 'key.set', keyStore: 's', externalKeyId: 'k', ivBudget: 'continue' });
  t.strictSame(
    all.map(({ mayEncrypt }) => mayEncrypt),
    [true, true, true],
  );
  for (const each of all) each.encrypt(2_000);
  await world.pass(2_000);
  t.ok(world.reserved >= world.made && world.reserved > encryptionsMax, 'and it counts on');
  world.apply({ type: 'key.set', keyStore: 's', externalKeyId: 'k', ivBudget: 'refuse' });
  t.strictSame(
    all.map(({ mayEncrypt }) => mayEncrypt),
    [false, false, false],
    'what they still hold is of no use',
  );
});

t.test('without a quorum each process goes on to its share of what was left', async (t) => {
  const encryptionsMax = 170_000;
  const world = new IvWorld({ encryptionsMax });
  const node = world.node();
  const all = Array.from({ length: ivLimits.unreservedShare }, (_, place) => node.start(`p-${place}`));
  const [one] = all;
  one?.encrypt(1);
  await world.pass(100);
  world.quorum = 'gone';
  for (const each of all) while (each.mayEncrypt) each.encrypt(1);
  t.ok(world.made > encryptionsMax - world.reserved, 'most of it');
  t.ok(world.made <= encryptionsMax, `${world.made}: so many processes stay within the budget`);
  world.quorum = 'there';
  await world.pass(7_000);
  t.ok(world.reserved >= world.made);
  for (const each of all) while (each.mayEncrypt) each.encrypt(1);
  // Those that reported first were given blocks before the others had.
  t.ok(world.made <= encryptionsMax + all.length * blockMin, `${world.made}`);
});

t.test('before a cluster reserves at all, a process alone goes on to the end', async (t) => {
  const one = new IvWorld({ format: 2, encryptionsMax: 10_000 }).node().start('p-1');
  let made = 0;
  for (; one.mayEncrypt; made += 1) one.encrypt(1);
  t.equal(made, 10_000);
});

t.test('a block held from when the key was let go on is of no use after that', async (t) => {
  const world = new IvWorld({ encryptionsMax: 5_000 });
  const one = world.node().start('p-1');
  const set = (ivBudget: 'continue' | 'refuse') =>
    world.apply({ type: 'key.set', keyStore: 's', externalKeyId: 'k', ivBudget });
  set('continue');
  for (let rounds = 0; rounds < 12; rounds += 1) {
    one.encrypt(1_000);
    await world.pass(100);
  }
  t.ok(world.reserved > world.made + 1_000, 'it has some');
  t.equal(one.mayEncrypt, true);
  set('refuse');
  t.equal(one.mayEncrypt, false);
  set('continue');
  t.equal(one.mayEncrypt, true);
});

t.test('of a block that begins within the budget, what lies within is used to the last', async (t) => {
  const world = new IvWorld({ encryptionsMax: 5_000 });
  const one = world.node().start('p-1');
  one.encrypt(1);
  await world.pass(50);
  while (one.mayEncrypt) {
    one.encrypt(1);
    if (world.made % 500 === 0) await world.pass(50);
  }
  t.equal(world.made, 5_000);
  t.equal(world.reserved, 1 + 2 * blockMin);
});

t.test('a key that is used up wants nothing, and sets no timer', async (t) => {
  const world = new IvWorld({ encryptionsMax: 1 + blockMin });
  const one = world.node().start('p-1');
  one.encrypt(1);
  await world.pass(2_000);
  one.encrypt(blockMin);
  await world.pass(2_000);
  t.equal(one.mayEncrypt, false);
  const { frames } = one;
  await world.pass(60_000, 1_000);
  t.equal(one.frames, frames);
  t.equal(one.accounts.wantsAny, false);
  t.equal(world.time.pending, 0);
  one.encrypt(1);
  await world.pass(100);
  t.ok(world.reserved >= world.made, 'what is encrypted all the same, as a retry is, is counted');
});

t.test('an object that is no key is asked for once, not for ever', async (t) => {
  const world = new IvWorld();
  const one = world.node().start('p-1');
  one.accounts.asked('ff');
  await world.pass(10_000);
  t.equal(world.proposed.length, 1);
  t.equal(one.accounts.wantsAny, false);
});

t.test('a reservation that key state refuses is not granted, and asked for again', async (t) => {
  const world = new IvWorld({ format: 3 });
  const one = world.node().start('p-1');
  world.believedFormat = 4;
  one.encrypt(10);
  await world.pass(20_000);
  t.equal(world.reserved, 0);
  t.ok(world.proposed.length > 1);
  t.equal(one.accounts.wants(world.log.machine.state)[0]?.used, 10, 'it still has them to report');
  world.believedFormat = null;
  await world.pass(7_000);
  t.ok(world.reserved >= 10 + blockMin);
});

t.test('proposals of unknown outcome that are all committed in the end count once', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  const one = node.start('p-1');
  world.quorum = 'held';
  one.encrypt(5_000);
  await world.pass(2_000);
  one.encrypt(700);
  await world.pass(1_000);
  one.kill();
  await world.pass(30_000, 250);
  t.ok(world.held > 3, `${world.held} of them`);
  t.equal(node.reservations.unreservedOf(ivObject), 5_700);
  world.quorum = 'there';
  world.releaseHeld();
  await world.pass(10_000);
  t.ok(world.reserved >= world.made);
  t.ok(world.reserved <= world.made + 2 ** 20, `${world.reserved}`);
  t.equal(node.reservations.unreserved(), 0);
});

t.test('also when its replica begins anew meanwhile, and the process lives on', async (t) => {
  const world = new IvWorld();
  const one = world.node().start('p-1');
  world.quorum = 'held';
  one.encrypt(5_000);
  await world.pass(8_000, 250);
  one.lose();
  one.link(world.node());
  await world.pass(8_000, 250);
  t.ok(world.held > 2, `${world.held} of them`);
  one.lose();
  world.quorum = 'there';
  world.releaseHeld();
  one.link(world.node());
  await world.pass(5_000);
  t.ok(world.reserved >= world.made);
  t.ok(world.reserved < 2 * 5_000 + 2 ** 20, 'the uses counted once, beside a block');
  t.equal(world.proposedUses(), 5_000, 'no other number was given for them');
});

t.test('what is written off for a process that lives settles nothing else of it', async (t) => {
  const world = new IvWorld({ encryptionsMax: 200_000 });
  const one = world.node().start('p-1');
  world.quorum = 'gone';
  one.encrypt(1_000);
  await world.pass(2_000);
  one.encrypt(500);
  await world.pass(1_000);
  // Its link goes: what it asked for is counted, and what it used besides is on its way.
  one.unlink();
  world.outcomes.push('there', 'held');
  await world.pass(7_000);
  t.equal(world.reserved, 1_000);
  t.equal(world.held, 1);
  // It comes back, and asks for more under its next number, of which nothing becomes.
  one.link();
  one.encrypt(20_000);
  await world.pass(3_000);
  one.unlink();
  world.releaseHeld();
  t.equal(world.reserved, 1_500);
  one.link();
  world.quorum = 'there';
  await world.pass(10_000);
  t.ok(world.reserved >= world.made, `${world.reserved} counted, ${world.made} made`);
  t.ok(world.reserved <= world.made + 500 + 2 * blockMin, 'twice only what was on its way');
});

t.test('what is on its way for a process that is gone counts once', async (t) => {
  const world = new IvWorld({ encryptionsMax: 200_000 });
  const node = world.node();
  const one = node.start('p-1');
  world.quorum = 'gone';
  one.encrypt(1_000);
  await world.pass(2_000);
  one.encrypt(500);
  await world.pass(1_000);
  one.kill();
  world.outcomes.push('there', 'held', 'held', 'unknown');
  world.quorum = 'there';
  await world.pass(12_000);
  t.equal(world.held, 2);
  t.equal(node.reservations.unreserved(), 500);
  world.releaseHeld();
  await world.pass(12_000);
  t.equal(world.reserved, 1_500);
  t.equal(node.reservations.unreserved(), 0);
});

t.test('what is perhaps in the log keeps its number, whatever else is left', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  world.quorum = 'gone';
  for (const [name, later] of [
    ['p-1', 500],
    ['p-2', 7],
  ] as const) {
    const one = node.start(name);
    one.encrypt(1_000);
    await world.pass(2_000);
    one.encrypt(later);
    await world.pass(1_000);
    one.kill();
  }
  world.outcomes.push('there', 'held', 'there', 'held', 'held');
  await world.pass(16_000);
  t.equal(world.held, 3);
  world.quorum = 'there';
  world.releaseHeld();
  await world.pass(16_000);
  t.equal(world.reserved, 2_507);
  t.equal(node.reservations.unreserved(), 0);
});

t.test('a write-off that does not get through holds up no other', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  world.isRefused = ({ holder }) => holder === 'p-1' || holder === 'p-2';
  world.quorum = 'gone';
  const all = ['p-1', 'p-2', 'p-3', 'p-4'].map((name) => node.start(name));
  for (const one of all) {
    one.encrypt(100);
    await world.pass(2_000);
    one.encrypt(10);
    await world.pass(2_000);
    one.kill();
  }
  world.quorum = 'there';
  await world.pass(60_000, 250);
  t.equal(world.reserved, 2 * 110);
  t.equal(node.reservations.unreserved(), 2 * 110, 'they are still to be counted');
  world.isRefused = () => false;
  await world.pass(20_000, 250);
  t.equal(world.reserved, 4 * 110);
  t.equal(node.reservations.unreserved(), 0);
});

t.test('nor one of many that were added up, nor one of which nobody knows what became of it', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  world.quorum = 'gone';
  for (let life = 1; life <= 20; life += 1) {
    const one = node.start(`p-${life}`);
    one.encrypt(100);
    await world.pass(1_500);
    one.encrypt(10);
    await world.pass(1_500);
    one.kill();
  }
  t.equal(node.reservations.unreserved(), 20 * 110);
  world.quorum = 'held';
  await world.pass(60_000, 250);
  t.equal(world.reserved, 0);
  world.quorum = 'there';
  world.releaseHeld();
  await world.pass(60_000, 250);
  t.equal(node.reservations.unreserved(), 0);
  t.equal(world.reserved, 20 * 110);
});

t.test('a bug in one proposal does not end all others', async (t) => {
  const world = new IvWorld();
  const node = world.node();
  const one = node.start('p-1');
  world.failEncoding = true;
  one.encrypt(10);
  await world.pass(1_000);
  one.kill();
  await world.pass(1_000);
  world.failEncoding = false;
  await world.pass(7_000);
  t.equal(world.reserved, 10);
  const other = node.start('p-2');
  other.encrypt(1);
  await world.pass(100);
  t.ok(world.reserved >= 11 + blockMin);
});

t.test(
  'what never came to C_Encrypt is given back, and what came more than once counts as often',
  async (t) => {
    const world = new IvWorld({ encryptionsMax: 1_000 });
    const { accounts } = world.node().start('p-1');
    const left = () => accounts.wants(world.log.machine.state)[0]?.used;
    accounts.asked(ivObject);
    accounts.asked(ivObject);
    accounts.corrected(ivObject, -1);
    t.equal(left(), 1);
    accounts.asked(ivObject);
    accounts.corrected(ivObject, 2);
    t.equal(left(), 4);
  },
);

for (const seed of [1, 2, 3, 4, 5, 6]) {
  t.test(`seed ${seed}: the count is never below what was made, but for what dies unreported`, async (t) => {
    const random = new SeededRandom(seed);
    const world = new IvWorld();
    const nodes = [world.node(), world.node()];
    const alive = new Map<string, { process: ReturnType<(typeof nodes)[0]['start']>; unreported: number }>();
    let lives = 0;
    let deaths = 0;
    let lost = 0;
    for (let step = 0; step < 400; step += 1) {
      if (alive.size < 4) {
        lives += 1;
        const process = random.pick(nodes).start(`p-${lives}`);
        alive.set(`p-${lives}`, { process, unreported: 0 });
      }
      for (const each of alive.values()) {
        const count = random.integer(3) === 0 ? 0 : random.integer(800);
        each.process.encrypt(count);
        each.unreported += count;
      }
      if (random.integer(12) === 0) {
        world.quorum = random.pick(['there', 'gone', 'unknown']);
      }
      if (random.integer(3) > 0) {
        await world.pass(2_000, 250);
        for (const each of alive.values()) if (each.process.isLinked) each.unreported = 0;
      }
      const [id] = random.pick([...alive]);
      const one = alive.get(id);
      if (one === undefined) continue;
      const fate = random.integer(20);
      if (fate === 0) {
        one.process.kill();
        alive.delete(id);
        deaths += 1;
        lost += one.unreported;
      } else if (fate === 1 && one.process.isLinked) one.process.unlink();
      else if (!one.process.isLinked) one.process.link();
    }
    world.quorum = 'there';
    for (const { process } of alive.values()) if (!process.isLinked) process.link();
    await world.pass(20_000, 250);
    t.ok(deaths > 5, `${deaths} deaths`);
    t.ok(
      world.reserved >= world.made - lost,
      `${world.reserved} counted, ${world.made} made, ${lost} unreported`,
    );
  });
}
