import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import t from 'tap';
import { childrenOf, eventually, isAlive } from '../support/running-node.js';
import { startedProcess } from './reaper.js';

const reaper = new URL('reaper.js', import.meta.url).href;

/** Ends with its parent unless it stands still, as a child of a node does. */
const child = "process.once('disconnect', () => process.exit(0)); setInterval(() => {}, 1000)";
const node = `
  const { fork } = require('node:child_process');
  fork('-e', [${JSON.stringify(child)}], { execArgv: [] }).on('spawn', () => console.log('up'));
  setInterval(() => {}, 1000);
`;
/** Has a reaper, and a node in a group of its own; says who they are. */
const owner = `
  import { spawn } from 'node:child_process';
  import { once } from 'node:events';
  import { Reaper } from ${JSON.stringify(reaper)};
  const node = spawn(process.execPath, ['-e', ${JSON.stringify(node)}], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(node.stdout, 'data');
  const reaper = await Reaper.start();
  if (process.argv[1] === 'watch') reaper.watch([node.pid], []);
  if (process.argv[1] === 'stop') await reaper.stop();
  process.stdout.write(JSON.stringify({ reaper: reaper.pid, node: node.pid }) + '\\n');
  setInterval(() => {}, 1000);
`;

interface Family {
  readonly process: ChildProcess;
  readonly reaper: number;
  readonly node: number;
  readonly child: number;
}

async function begin(how: 'watch' | 'stop'): Promise<Family> {
  const begun = spawn(process.execPath, ['--input-type=module', '-e', owner, how], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface({ input: begun.stdout }), 'line')) as [string];
  const pids = JSON.parse(line) as { readonly reaper: number; readonly node: number };
  return { process: begun, ...pids, child: childrenOf(pids.node)[0] ?? 0 };
}

t.test('kill -9 of a runner ends what it had started, also what stands still', async (t) => {
  const family = await begin('watch');
  process.kill(family.child, 'SIGSTOP');
  family.process.kill('SIGKILL');
  for (const pid of [family.node, family.child, family.reaper]) {
    await eventually(`the end of ${pid}`, () => !isAlive(pid));
  }
  t.pass('all ended');
});

t.test('a runner that says that nothing is left keeps its reaper from ending anything', async (t) => {
  const family = await begin('stop');
  t.notOk(isAlive(family.reaper), 'and waits for its end');
  family.process.kill('SIGKILL');
  await once(family.process, 'exit');
  t.ok(isAlive(family.node));
  process.kill(family.node, 'SIGKILL');
  await eventually('the end of its child', () => !isAlive(family.child));
});

t.test('a process is told from a later one by its start', async (t) => {
  const own = startedProcess(process.pid);
  t.match(own?.startTime, /^[0-9]+$/);
  t.equal(startedProcess(process.ppid)?.startTime === own?.startTime, false);
  t.equal(startedProcess(2 ** 22 + 1), null, 'beyond the largest pid');
});
