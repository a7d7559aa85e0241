import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { getPriority } from 'node:os';
import t from 'tap';
import { mayReturnTo, StartPriority } from '../../src/supervisor/start-priority.js';

const limits = (ceiling: string): string =>
  `Limit                     Soft Limit           Hard Limit           Units     \nMax nice priority         ${ceiling}                    40                   \n`;
const status = (capabilities: string): string => `Name:\tnode\nCapEff:\t${capabilities}\nSeccomp:\t0\n`;
const none = status('0000000000000400');

t.test('a priority is lowered only where it may be had back', async (t) => {
  t.notOk(mayReturnTo(0, limits('0'), none), 'the default');
  t.ok(mayReturnTo(0, limits('20'), none), 'LimitNICE=+0');
  t.notOk(mayReturnTo(-1, limits('20'), none));
  t.ok(mayReturnTo(3, limits('17'), none));
  t.ok(mayReturnTo(0, limits('unlimited'), none));
  t.ok(mayReturnTo(-20, limits('0'), status('0000000000800000')), 'CAP_SYS_NICE');
  t.notOk(mayReturnTo(0, 'something else', 'altogether'));
});

t.test('lowered for a process, and given back to each of its threads', async (t) => {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
  t.teardown(() => child.kill('SIGKILL'));
  const pid = child.pid ?? 0;
  const own = getPriority();
  const priority = new StartPriority();
  priority.lower(pid);
  const lowered = getPriority(pid);
  t.ok(lowered === Math.min(19, own + 5) || lowered === own, 'where it may not be had back it stays');
  priority.restore(pid);
  const threads = readdirSync(`/proc/${pid}/task`).map(Number);
  t.strictSame(new Set(threads.map((thread) => getPriority(thread))), new Set([own]));
});

t.test('a process that has ended is no trouble', async () => {
  const child = spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' });
  const pid = child.pid ?? 0;
  await new Promise((resolve) => child.once('exit', resolve));
  const priority = new StartPriority();
  priority.lower(pid);
  priority.restore(pid);
});
