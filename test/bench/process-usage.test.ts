import t from 'tap';
import { cpuMicrosOf, processTree, roleOf, usageOf } from '../../bench/target/process-usage.js';

t.test('a name with spaces and parentheses does not shift the fields of stat', async (t) => {
  const stat = '42 (a) b (c)) S 1 42 42 0 -1 4194560 10 0 0 0 250 50 3 4 20 0 1 0 100 1 1';
  t.equal(cpuMicrosOf(stat), 3_000_000);
  t.equal(roleOf(['/opt/other', '-x'], stat), 'a) b (c)');
});

t.test('processes of ours go by what they do', async (t) => {
  const role = (...command: readonly string[]): string => roleOf(command, '1 (node) S');
  t.equal(role('node', '/x/dist/src/cli/xksd.js', 'run', '--config', 'f'), 'supervisor');
  t.equal(role('node', '--cpu-prof', '/x/xksd.js', 'serving'), 'serving');
  t.equal(role('/usr/bin/xksd', 'replica'), 'replica');
  t.equal(role('node', 'other.js'), 'node');
});

t.test('this process is seen, one that is not there is not', async (t) => {
  const own = usageOf(process.pid);
  t.ok(own !== null && own.pssKiB > 0 && own.cpuMicros > 0);
  t.ok(processTree([process.pid]).some(({ pid }) => pid === process.pid));
  t.strictSame(processTree([2 ** 30]), []);
  const [here] = processTree([process.pid, process.ppid]);
  t.equal(here?.role, `1 ${own?.role}`, 'of several trees, with its number');
});
