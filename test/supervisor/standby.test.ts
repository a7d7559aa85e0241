import t from 'tap';
import type { ChildMessage } from '../../src/ops/supervision.js';
import type { ChildHandle, ChildOwner } from '../../src/supervisor/child-process.js';
import { Standby } from '../../src/supervisor/standby.js';
import { standbyNiceness } from '../../src/supervisor/start-priority.js';

const heartbeat: ChildMessage = { kind: 'heartbeat' };

class FakeChild implements ChildHandle {
  readonly pid: number;
  readonly owner: ChildOwner;
  killed = false;

  constructor(pid: number, owner: ChildOwner) {
    this.pid = pid;
    this.owner = owner;
  }

  send(): void {}

  kill(): void {
    this.killed = true;
  }
}

function begin(options: { readonly givesPriorityBack?: boolean } = {}) {
  const children: FakeChild[] = [];
  const priorities: string[] = [];
  const time = { nowMs: 0 };
  const died: string[] = [];
  const loaded: (number | null)[] = [];
  const standby = new Standby({
    spawn: (owner) => {
      const child = new FakeChild(children.length + 1, owner);
      children.push(child);
      return child;
    },
    priority: {
      lower: (pid, niceness) => void priorities.push(`${pid} by ${niceness}`),
      restore: (pid) => {
        priorities.push(`${pid} back`);
        return options.givesPriorityBack ?? true;
      },
    },
    nowMs: () => time.nowMs,
    onLoaded: (pid) => void loaded.push(pid),
    onDied: (code, signal) => void died.push(`${code} ${signal}`),
  });
  const heard: string[] = [];
  const owner: ChildOwner = {
    onMessage: ({ kind }) => void heard.push(kind),
    onExit: (code, signal) => void heard.push(`exit ${code} ${signal}`),
  };
  return { standby, children, priorities, time, heard, loaded, died, owner };
}

t.test('one waits behind all others, and is its owner’s once it is taken', async (t) => {
  const { standby, children, priorities, heard, loaded, owner } = begin();
  t.equal(standby.take(owner), null, 'nobody waits yet');
  standby.prepare();
  standby.prepare();
  t.equal(children.length, 1, 'one is enough');
  const [first] = children;
  first?.owner.onMessage(heartbeat);
  t.strictSame([heard, loaded], [[], [1]], 'while it waits it is nobody’s');
  t.equal(standby.take(owner), first);
  t.strictSame(priorities, [`1 by ${standbyNiceness}`, '1 back']);
  first?.owner.onMessage(heartbeat);
  first?.owner.onExit(null, 'SIGKILL');
  t.strictSame(heard, ['heartbeat', 'exit null SIGKILL']);
  t.strictSame(loaded, [1], 'once');
  t.equal(standby.take(owner), null, 'taken once');
  standby.end();
  t.notOk(first?.killed, 'it is not a standby any more');
});

t.test('one that is still loading is waited for, and not taken', async (t) => {
  const { standby, children, time, owner } = begin();
  standby.prepare();
  time.nowMs = 300_000;
  standby.prepare();
  t.equal(children.length, 1);
  time.nowMs = 300_001;
  standby.prepare();
  t.equal(children.length, 2, 'but not for ever');
  t.ok(children[0]?.killed);
  t.equal(standby.take(owner), null);
  t.ok(children[1]?.killed);
});

t.test('one that fell silent is not taken, and is replaced', async (t) => {
  const { standby, children, time, owner } = begin();
  standby.prepare();
  children[0]?.owner.onMessage(heartbeat);
  time.nowMs = 3_000;
  standby.prepare();
  t.equal(children.length, 1);
  time.nowMs = 3_001;
  t.equal(standby.take(owner), null);
  t.ok(children[0]?.killed);
  standby.prepare();
  children[1]?.owner.onMessage(heartbeat);
  time.nowMs = 9_000;
  standby.prepare();
  t.ok(children[1]?.killed);
  children[1]?.owner.onExit(null, 'SIGKILL');
  children[2]?.owner.onMessage(heartbeat);
  t.equal(standby.take(owner), children[2], 'the end of the one before is not that of the next');
});

t.test('one that must keep its low priority is of no use', async (t) => {
  const { standby, children, owner } = begin({ givesPriorityBack: false });
  standby.prepare();
  children[0]?.owner.onMessage(heartbeat);
  t.equal(standby.take(owner), null);
  t.ok(children[0]?.killed);
});

t.test('one that ends while it waits is told of, and replaced when it is asked for anew', async (t) => {
  const { standby, children, heard, died, owner } = begin();
  standby.prepare();
  children[0]?.owner.onExit(1, null);
  t.strictSame(died, ['1 null']);
  t.equal(standby.take(owner), null);
  standby.prepare();
  t.equal(children.length, 2);
  standby.end();
  t.ok(children[1]?.killed);
  children[1]?.owner.onExit(null, 'SIGKILL');
  t.strictSame([heard, died], [[], ['1 null']], 'not of one that was ended');
});
