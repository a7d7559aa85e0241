import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { constants, getPriority } from 'node:os';
import t, { type Test } from 'tap';
import {
  mayReturnTo,
  type PrioritySystem,
  type ProcessFacts,
  StartPriority,
  startNiceness,
} from '../../src/supervisor/start-priority.js';

const initialNamespace = '         0          0 4294967295\n';
const ordinary = '0000000000000400';
const withSysNice = '0000000000800000';

const facts = (ceiling: string, capabilities = ordinary, uidMap = initialNamespace): ProcessFacts => ({
  limits: `Limit                     Soft Limit           Hard Limit           Units     \nMax nice priority         ${ceiling}                    40                   \n`,
  status: `Name:\tnode\nCapEff:\t${capabilities}\nSeccomp:\t0\n`,
  uidMap,
});

const neverRefused = (reason: string): void => {
  throw new Error(reason);
};

function runningProcess(t: Test): number {
  const child: ChildProcess = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], {
    stdio: 'ignore',
  });
  t.teardown(() => child.kill('SIGKILL'));
  return child.pid ?? 0;
}

t.test('a priority is lowered only where it may be had back', async (t) => {
  t.notOk(mayReturnTo(0, facts('0')), 'the default');
  t.ok(mayReturnTo(0, facts('20')), 'LimitNICE=+0');
  t.notOk(mayReturnTo(-1, facts('20')));
  t.ok(mayReturnTo(3, facts('17')));
  t.ok(mayReturnTo(0, facts('unlimited')));
  t.ok(mayReturnTo(-20, facts('0', withSysNice)), 'CAP_SYS_NICE');
  t.notOk(mayReturnTo(0, { limits: 'something else', status: 'altogether', uidMap: '' }));
});

t.test('the capability of another user namespace is of no use, the limit is', async (t) => {
  const namespace = '         0       1000          1\n';
  t.notOk(mayReturnTo(0, facts('0', withSysNice, namespace)));
  t.notOk(mayReturnTo(0, facts('0', withSysNice, `         0     100000      65536\n`)));
  t.ok(mayReturnTo(0, facts('20', withSysNice, namespace)));
});

t.test('lowered for a process, and given back to each of its threads', async (t) => {
  const pid = runningProcess(t);
  const own = getPriority();
  const priority = new StartPriority(neverRefused);
  priority.lower(pid, startNiceness);
  const lowered = getPriority(pid);
  t.ok(
    lowered === Math.min(19, own + startNiceness) || lowered === own,
    'where it may not be had back it stays',
  );
  t.ok(priority.restore(pid));
  const threads = readdirSync(`/proc/${pid}/task`).map(Number);
  t.strictSame(new Set(threads.map((thread) => getPriority(thread))), new Set([own]));
});

t.test(
  'where the system refuses all the same, that is said once, and no other process is lowered',
  async (t) => {
    const pid = runningProcess(t);
    const nicenessOf = new Map<number, number>();
    const calls: PrioritySystem = {
      facts: () => facts('20'),
      get: (each) => nicenessOf.get(each) ?? 0,
      set: (each, niceness) => {
        if (niceness < calls.get(each)) {
          throw Object.assign(new Error('no'), { errno: -constants.errno.EACCES });
        }
        nicenessOf.set(each, niceness);
      },
    };
    const said: string[] = [];
    const priority = new StartPriority((reason) => said.push(reason), calls);
    priority.lower(pid, startNiceness);
    t.equal(calls.get(pid), startNiceness);
    t.notOk(priority.restore(pid), 'it keeps the lower one');
    t.strictSame(said, ['the system does not let a process have its priority back (EACCES)']);
    const next = runningProcess(t);
    priority.lower(next, startNiceness);
    t.equal(calls.get(next), 0, 'left as it is');
    t.ok(priority.restore(next));
    t.equal(said.length, 1);
  },
);

t.test('a process that has ended is no trouble', async () => {
  const child = spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' });
  const pid = child.pid ?? 0;
  await new Promise((resolve) => child.once('exit', resolve));
  const priority = new StartPriority(neverRefused);
  priority.lower(pid, startNiceness);
  priority.restore(pid);
});
