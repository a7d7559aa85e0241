import { readFileSync } from 'node:fs';
import t from 'tap';
import { searchFor } from './bug-search.js';
import { buildWith, checkEdits } from './bugs/edited-build.js';
import { plantedBugs } from './bugs/planted-bugs.js';
import { type KeptSeed, keptSeeds } from './kept-seeds.js';
import { reproduction } from './reproduction.js';
import { realBuild } from './sim-build.js';
import { Simulation, type SimulationResult } from './simulation.js';

const run = (seed: number, events: number, readable = false, keys: boolean | null = null): SimulationResult =>
  new Simulation({ seed, events, nodes: null, keys, readable, build: realBuild }).run();

t.test('the same seed run twice gives the same trace', async (t) => {
  const first = run(12_345, 6_000);
  const second = run(12_345, 6_000, true);
  t.equal(first.traceHash, second.traceHash);
  t.equal(first.events, second.events);
  t.ok(second.tail.length > 1_000, 'and can be read');
  t.not(first.traceHash, run(12_346, 6_000).traceHash);
});

t.test('seeds chosen here, and every one that ever found something', async (t) => {
  const seeds: readonly Omit<KeptSeed, 'found'>[] = [
    ...Array.from({ length: 30 }, (_, place) => ({ seed: place + 1 })),
    ...keptSeeds,
  ];
  let acknowledged = 0;
  for (const { seed, events = 5_000, keys = null } of seeds) {
    const result = run(seed, events, false, keys);
    acknowledged += result.acknowledged;
    const { violation } = result;
    if (violation !== null) {
      const again = reproduction({ seed, events, nodes: null, keys, bug: null });
      t.fail(`${violation.checker}: ${violation.detail}; again: ${again}`);
    }
  }
  t.ok(acknowledged > 1_000, `${acknowledged} writes were acknowledged`);
});

t.test(
  'serving processes are asked for what is there, what is not, and what they must not give',
  async (t) => {
    const names = new Set<string>();
    for (let seed = 1; seed <= 4; seed += 1) {
      const { answers, violation } = new Simulation({
        seed,
        events: 10_000,
        nodes: null,
        keys: true,
        readable: false,
        build: realBuild,
      }).run();
      t.equal(violation, null);
      for (const name of Object.keys(answers ?? {})) names.add(name);
    }
    t.strictSame(
      [
        'ok',
        'InvalidStateException',
        'DependencyTimeoutException',
        'AuthenticationFailedException',
        'KeyNotFoundException',
        'InvalidUriPathException',
      ].filter((name) => !names.has(name)),
      [],
      'each of them was answered',
    );
  },
);

t.test('every planted bug can be planted', async (t) => {
  t.ok(plantedBugs.length >= 25, `${plantedBugs.length} bugs`);
  t.equal(new Set(plantedBugs.map(({ name }) => name)).size, plantedBugs.length);
  for (const bug of plantedBugs) {
    t.doesNotThrow(() => checkEdits(bug), bug.name);
    t.ok(bug.edits ?? bug.nextReleaseEdits ?? bug.replaceParts);
  }
  const edit = { file: 'raft/quorum', find: 'no such place', replace: '' };
  await t.rejects(buildWith({ name: 'nowhere', origin: '', edits: [edit] }), /0 places/);
});

t.test('the table of planted bugs has each of them', async (t) => {
  const text = readFileSync(new URL('../../../docs/simulator.md', import.meta.url), 'utf8');
  const table = text.slice(text.indexOf('| bug | origin |')).split('\n\n')[0] ?? '';
  const rows = table.split('\n').slice(2);
  t.strictSame(
    rows.map((row) => row.split(' | ').slice(0, 2).join(' | ')),
    plantedBugs.map(({ name, origin }) => `| ${name} | ${origin}`),
  );
  t.strictSame(
    rows.filter((row) => !/ \| [1-9][0-9]* \| \S.* \|$/.test(row)),
    [],
    'and each was found',
  );
});

t.test('planted bugs are found', async (t) => {
  // Those that take the fewest seeds, of each part; `npm run sim -- --bugs` looks for all.
  for (const [name, keys] of [
    ['vote-reset-within-term', null],
    ['delayed-append-cuts-suffix', null],
    ['read-id-reused', null],
    ['read-before-applied', null],
    ['freshness-from-heartbeats', null],
    ['gap-after-snapshot', null],
    ['request-id-not-deduplicated', null],
    ['lower-terms-unanswered', null],
    ['recovered-as-the-same-cluster', false],
    ['key-only-looked-up-at-admission', true],
    ['stale-unknown-is-404', true],
    ['freshness-of-its-arrival', true],
    ['hash-over-newest-encoding', true],
  ] as const) {
    const bug = plantedBugs.find((one) => one.name === name);
    if (bug === undefined) throw new Error(`no bug ${name}`);
    const found = await searchFor(bug, { firstSeed: 1, seeds: 10, events: 10_000, nodes: null, keys });
    t.not(found, null, `${name}: seed ${found?.seed}, ${found?.violation.checker}`);
  }
});
