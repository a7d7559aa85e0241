import t from 'tap';
import {
  heartbeatIntervalMs,
  replicaHeartbeatTimeoutMs,
  type SupervisorMessage,
  servingHeartbeatTimeoutMs,
} from '../../src/ops/supervision.js';
import { usefulAfterMs } from '../../src/supervisor/restart-policy.js';
import { Supervision, tickIntervalMs } from '../../src/supervisor/supervision.js';
import type { Action, Event } from '../../src/supervisor/supervision-events.js';

/** Supervision with a clock of its own and children that do as the test says. */
class SimulatedNode {
  readonly supervision: Supervision;
  nowMs = 1_000_000;
  readonly #actions: Action[] = [];
  /** Children whose hearts beat while time passes. */
  readonly beating = new Set<number>();

  constructor(options: { serving?: number; drainMs?: number } = {}) {
    this.supervision = new Supervision({
      servingProcesses: options.serving ?? 2,
      drainMs: options.drainMs ?? 60_000,
      random: () => 1,
    });
  }

  do(event: Event): void {
    for (const action of this.supervision.handle(event, this.nowMs)) {
      if (action.kind === 'spawn') this.beating.add(action.slot);
      this.#actions.push(action);
    }
  }

  start(): void {
    this.do({ kind: 'start' });
  }

  readiness(slot: number, ready: boolean, reason = ''): void {
    this.do({ kind: 'message', slot, message: { kind: 'readiness', ready, reason } });
  }

  fatal(slot: number, message: string): void {
    this.do({ kind: 'message', slot, message: { kind: 'fatal', message } });
    this.exited(slot, 1);
  }

  exited(slot: number, code: number | null, signal: string | null = null): void {
    this.beating.delete(slot);
    this.do({ kind: 'exited', slot, code, signal });
  }

  /** Lets time pass, tick by tick. */
  pass(ms: number): void {
    for (let passed = 0; passed < ms; passed += tickIntervalMs) {
      this.nowMs += tickIntervalMs;
      if (passed % heartbeatIntervalMs === 0) {
        for (const slot of this.beating) this.do({ kind: 'message', slot, message: { kind: 'heartbeat' } });
      }
      this.do({ kind: 'tick' });
    }
  }

  /** The messages to a child since the last call. */
  sent<K extends SupervisorMessage['kind']>(
    kind: K,
    slot: number,
  ): readonly Extract<SupervisorMessage, { readonly kind: K }>[] {
    return this.#actions.splice(0).flatMap((action) => {
      if (action.kind !== 'send' || action.slot !== slot) return [];
      const { message } = action;
      return isOfKind(message, kind) ? [message] : [];
    });
  }

  /** What was done since the last call, of these kinds, in brief. `drain`, `leave`: those sends only. */
  took(...kinds: (Exclude<Action['kind'], 'send'> | SupervisorMessage['kind'])[]): string[] {
    return this.#actions.splice(0).flatMap((action) => {
      if (action.kind === 'send') {
        const { message, slot } = action;
        if (!kinds.includes(message.kind)) return [];
        if (message.kind === 'drain') return [`drain ${slot} ${message.drainMs}`];
        if (message.kind === 'leave') return [`leave ${slot} ${message.leaveMs}`];
        const counts = `${message.readyServingProcesses}/${message.servingProcesses}`;
        return [`fleet ${slot} ${counts}`];
      }
      if (!kinds.includes(action.kind)) return [];
      if (action.kind === 'finish') return [`finish ${action.code} ${action.message}`];
      if (action.kind === 'notify') return [`notify ${action.state}: ${action.status}`];
      if (action.kind === 'status') return [`status ${action.status}`];
      if (action.kind === 'priority') return [`priority ${action.slot} ${action.level}`];
      if (action.kind === 'standby') return [`standby ${action.wanted}`];
      return ['slot' in action ? `${action.kind} ${action.slot}` : action.kind];
    });
  }
}

const isOfKind = <K extends SupervisorMessage['kind']>(
  message: SupervisorMessage,
  kind: K,
): message is Extract<SupervisorMessage, { readonly kind: K }> => message.kind === kind;

function readyNode(options: { serving?: number; drainMs?: number } = {}): SimulatedNode {
  const node = new SimulatedNode(options);
  node.start();
  node.pass(tickIntervalMs);
  for (let slot = 0; slot <= (options.serving ?? 2); slot++) node.readiness(slot, true);
  node.took();
  return node;
}

t.test('a node starts its replica and serving processes and tells all how many are ready', async (t) => {
  const node = new SimulatedNode();
  node.start();
  t.same(node.took('spawn'), ['spawn 0', 'spawn 1', 'spawn 2']);
  node.readiness(1, true);
  t.same(node.took('fleet'), ['fleet 0 1/2', 'fleet 1 1/2', 'fleet 2 1/2']);
});

t.test('children learn which serving processes run, ready or not', async (t) => {
  const node = new SimulatedNode();
  node.start();
  node.took();
  const running = (): readonly unknown[] =>
    node
      .sent('fleet', 0)
      .map((message) => message.running.map(({ slot, pid }) => `${slot}:${pid}`).join(' '));
  for (const slot of [0, 1, 2]) node.do({ kind: 'spawned', slot, pid: 100 + slot });
  t.same(running(), ['1:101', '1:101 2:102']);
  node.exited(1, null, 'SIGKILL');
  t.same(running(), ['2:102'], 'the new one is not known yet');
  node.do({ kind: 'spawned', slot: 1, pid: 201 });
  t.same(running(), ['1:201 2:102']);
});

t.test('who takes the place of another comes after those that serve, until it does', async (t) => {
  const node = new SimulatedNode();
  node.start();
  t.same(node.took('priority'), [], 'nobody serves yet');
  for (const slot of [0, 1, 2]) node.readiness(slot, true);
  node.exited(0, null, 'SIGKILL');
  t.same(node.took('priority'), [], 'a replica is waited for');
  node.exited(1, null, 'SIGSEGV');
  t.same(node.took('spawn', 'priority'), ['spawn 1', 'priority 1 start']);
  node.readiness(1, false, 'no key state yet');
  t.same(node.took('priority'), []);
  node.readiness(1, true);
  t.same(node.took('priority'), ['priority 1 normal']);
  node.readiness(1, true);
  t.same(node.took('priority'), [], 'once');
});

t.test('when nobody is left who serves, who starts comes after nobody', async (t) => {
  const node = new SimulatedNode();
  node.start();
  for (const slot of [0, 1, 2]) node.readiness(slot, true);
  node.exited(1, null, 'SIGSEGV');
  t.same(node.took('priority'), ['priority 1 start']);
  node.exited(2, null, 'SIGSEGV');
  t.same(node.took('spawn', 'priority'), ['spawn 2', 'priority 1 normal']);
});

t.test(
  'a replica that has been up for a while has a standby, looked after until the node stops',
  async (t) => {
    const node = new SimulatedNode();
    node.start();
    node.pass(usefulAfterMs);
    t.same(node.took('standby'), [], 'the replica is not up');
    for (const slot of [0, 1, 2]) node.readiness(slot, true);
    node.pass(tickIntervalMs);
    t.same(node.took('standby'), ['standby true']);
    node.pass(29_000);
    t.same(node.took('standby'), []);
    node.pass(1_000);
    t.same(node.took('standby'), ['standby true'], 'it may have ended meanwhile');
    node.exited(0, null, 'SIGKILL');
    t.same(node.took('spawn', 'standby'), ['spawn 0']);
    node.readiness(0, true);
    node.pass(usefulAfterMs - tickIntervalMs);
    t.same(node.took('standby'), [], 'not for one that fails again and again');
    node.pass(tickIntervalMs);
    t.same(node.took('standby'), ['standby true']);
    node.do({ kind: 'stop' });
    t.same(node.took('standby'), ['standby false']);
    node.pass(31_000);
    t.same(node.took('standby'), []);
  },
);

t.test(
  'READY waits for the replica and for what each serving process has to say, not for an HSM',
  async (t) => {
    const node = new SimulatedNode();
    node.start();
    node.readiness(1, false, 'token "xks": not found');
    node.readiness(0, true);
    t.same(node.took('notify'), []);
    node.readiness(2, true);
    t.same(node.took('notify'), [
      'notify ready: 1 of 2 serving processes ready; token "xks": not found; replica up',
    ]);
    node.readiness(1, true);
    t.same(node.took('notify', 'status'), ['status 2 of 2 serving processes ready; replica up']);
    node.readiness(1, true);
    t.same(node.took('notify', 'status', 'fleet'), [], 'nothing new, nothing said');
  },
);

t.test('READY does not wait for a serving process that crashes, but for a replica that does', async (t) => {
  const node = new SimulatedNode();
  node.start();
  node.readiness(1, true);
  node.exited(2, null, 'SIGSEGV');
  node.exited(0, 1);
  node.pass(1_000);
  t.same(node.took('notify'), []);
  node.readiness(0, true);
  t.same(node.took('notify'), ['notify ready: 1 of 2 serving processes ready; restarting; replica up']);
});

t.test(
  'a serving process that dies is back at once, in its own slot, and the others learn of it',
  async (t) => {
    const node = readyNode();
    node.exited(2, null, 'SIGSEGV');
    t.same(node.took('spawn', 'fleet', 'status'), [
      'spawn 2',
      'fleet 2 1/2',
      'fleet 0 1/2',
      'fleet 1 1/2',
      'fleet 2 1/2',
      'status 1 of 2 serving processes ready; restarting; replica up',
    ]);
    node.exited(2, null, 'SIGSEGV');
    t.same(node.took('spawn'), [], 'a second crash in a row waits');
    node.pass(100);
    t.same(node.took('spawn'), ['spawn 2']);
    node.exited(1, 0);
    t.same(node.took('spawn'), ['spawn 1'], 'an exit 0 that nobody asked for is no different');
  },
);

t.test('processes that cannot recover leave and are replaced, one after the other', async (t) => {
  const node = readyNode();
  const stuck = (slot: number, reason: string | null): void =>
    node.do({ kind: 'message', slot, message: { kind: 'stuck', reason } });
  for (const slot of [1, 2]) {
    node.readiness(slot, false, 'no usable token');
    stuck(slot, 'calls have not returned');
  }
  t.same(node.took('leave', 'kill'), ['leave 1 0']);
  node.exited(1, 0);
  node.pass(1_000);
  t.same(node.took('spawn', 'leave'), ['spawn 1'], 'the next waits for what becomes of the first');
  node.readiness(1, false, 'no usable token');
  node.pass(tickIntervalMs);
  t.same(node.took('leave'), ['leave 2 0']);
  node.pass(20_000);
  t.same(node.took('kill'), ['kill 2'], 'it did not leave');
  node.exited(2, null, 'SIGKILL');
  node.pass(1_000);
  t.same(node.took('spawn', 'leave'), ['spawn 2']);
});

t.test('a stuck process that serves all the same is replaced while all others serve', async (t) => {
  const stuck = { kind: 'stuck', reason: 'list-objects has not returned' } as const;
  const alone = readyNode({ serving: 1 });
  alone.do({ kind: 'message', slot: 1, message: stuck });
  alone.pass(1_000);
  t.same(alone.took('leave'), []);
  const node = readyNode({ serving: 3 });
  node.readiness(3, false);
  node.do({ kind: 'message', slot: 1, message: stuck });
  node.pass(1_000);
  t.same(node.took('leave'), []);
  node.readiness(3, true);
  node.pass(4_900);
  t.same(node.took('leave'), [], 'a process that has just started is not up to all the load');
  node.pass(100);
  t.same(node.took('leave'), ['leave 1 1000'], 'and its clients are told to go before it goes');
  node.pass(10_900);
  t.same(node.took('kill'), []);
  node.pass(100);
  t.same(node.took('kill'), ['kill 1']);
});

t.test('a process that recovers before its turn is left alone', async (t) => {
  const node = readyNode();
  node.pass(5_000);
  for (const slot of [1, 2]) node.do({ kind: 'message', slot, message: { kind: 'stuck', reason: 'x' } });
  node.do({ kind: 'message', slot: 2, message: { kind: 'stuck', reason: null } });
  node.exited(1, 0);
  node.readiness(1, true);
  node.pass(1_000);
  t.same(node.took('leave'), ['leave 1 1000']);
});

t.test('a silent serving process is killed once and replaced', async (t) => {
  const node = readyNode();
  node.beating.delete(1);
  node.pass(servingHeartbeatTimeoutMs - 1_000);
  t.same(node.took('kill'), []);
  node.pass(2_000);
  t.same(node.took('kill', 'status'), [
    'kill 1',
    'status 1 of 2 serving processes ready; does not answer; replica up',
  ]);
  node.pass(10_000);
  t.same(node.took('kill'), []);
  node.exited(1, null, 'SIGKILL');
  t.same(node.took('spawn'), ['spawn 1']);
});

t.test('a silent replica has longer, and a child that starts too', async (t) => {
  const node = readyNode();
  node.beating.delete(0);
  node.pass(replicaHeartbeatTimeoutMs - 1_000);
  t.same(node.took('kill'), []);
  node.pass(2_000);
  t.same(node.took('kill'), ['kill 0']);

  const starting = new SimulatedNode();
  starting.start();
  starting.beating.delete(2);
  starting.pass(19_000);
  t.same(starting.took('kill'), []);
  starting.pass(2_000);
  t.same(starting.took('kill'), ['kill 2']);
});

t.test('a supervisor that stood still blames nobody else', async (t) => {
  const node = readyNode();
  node.nowMs += 3_600_000;
  node.do({ kind: 'tick' });
  node.pass(1_000);
  t.same(node.took('kill'), []);
  node.beating.delete(1);
  node.pass(servingHeartbeatTimeoutMs + 1_000);
  t.same(node.took('kill'), ['kill 1'], 'silence after it counts');
});

t.test('what only a person can put right ends the node at boot', async (t) => {
  const node = new SimulatedNode();
  node.start();
  node.fatal(0, 'data directory of another node');
  t.same(node.took('finish'), ['finish 2 data directory of another node']);
  node.exited(1, 1);
  node.pass(1_000);
  t.same(node.took('spawn', 'kill', 'finish'), [], 'nothing follows');
});

t.test('one serving process that cannot start does not end the node, all of them do', async (t) => {
  const node = new SimulatedNode();
  node.start();
  node.readiness(0, true);
  node.fatal(1, 'bad certificate');
  t.same(node.took('finish', 'spawn').slice(3), []);
  node.fatal(2, 'bad certificate');
  t.same(node.took('finish'), ['finish 2 bad certificate']);
});

t.test('what a person must put right later costs that child only, which is tried now and then', async (t) => {
  const node = readyNode();
  node.fatal(0, 'disk gone');
  t.same(
    node.took('finish', 'spawn', 'status').at(-1),
    'status 2 of 2 serving processes ready; replica: disk gone',
  );
  node.pass(29_000);
  t.same(node.took('spawn', 'finish'), []);
  node.pass(1_000);
  t.same(node.took('spawn'), ['spawn 0']);
});

t.test('stopping drains the serving processes, then ends the replica, then the node', async (t) => {
  const node = readyNode();
  node.do({ kind: 'stop' });
  t.same(node.took('notify', 'drain', 'close-listeners'), [
    'notify stopping: draining for 60 s',
    'drain 1 60000',
    'drain 2 60000',
  ]);
  node.pass(59_900);
  t.same(node.took('close-listeners', 'kill'), []);
  node.pass(100);
  t.same(node.took('close-listeners', 'kill'), ['close-listeners']);
  node.exited(1, 0);
  t.same(node.took('drain', 'spawn', 'finish'), []);
  node.exited(2, 0);
  t.same(node.took('drain', 'spawn', 'finish'), ['drain 0 0']);
  node.exited(0, 0);
  t.same(node.took('drain', 'spawn', 'finish'), ['finish 0 null']);
});

t.test('a second signal hurries, a third kills', async (t) => {
  const node = readyNode();
  node.do({ kind: 'stop' });
  node.took();
  node.do({ kind: 'stop' });
  t.same(node.took('notify', 'drain', 'close-listeners', 'kill'), [
    'drain 1 0',
    'drain 2 0',
    'close-listeners',
  ]);
  node.do({ kind: 'stop' });
  t.same(node.took('kill'), ['kill 0', 'kill 1', 'kill 2']);
  for (const slot of [0, 1, 2]) node.exited(slot, null, 'SIGKILL');
  t.same(node.took('finish', 'spawn'), ['finish 1 null']);
});

t.test('who does not stop in time is killed, and the exit code says so', async (t) => {
  const node = readyNode({ drainMs: 1_000 });
  node.do({ kind: 'stop' });
  node.pass(10_000);
  t.same(node.took('kill'), []);
  node.exited(1, 0);
  node.pass(2_000);
  t.same(node.took('kill'), ['kill 0', 'kill 2']);
  node.exited(2, null, 'SIGKILL');
  node.exited(0, null, 'SIGKILL');
  t.same(node.took('finish'), ['finish 1 null']);
});

t.test('a replica that does not stop is killed', async (t) => {
  const node = readyNode({ drainMs: 0 });
  node.do({ kind: 'stop' });
  node.exited(1, 0);
  node.exited(2, 0);
  node.pass(9_900);
  t.same(node.took('kill'), []);
  node.pass(100);
  t.same(node.took('kill'), ['kill 0']);
  node.exited(0, null, 'SIGKILL');
  t.same(node.took('finish'), ['finish 1 null']);
});

t.test('a crash while draining is replaced, for the rest of the drain', async (t) => {
  const node = readyNode();
  node.do({ kind: 'stop' });
  node.pass(20_000);
  node.took();
  node.exited(1, null, 'SIGSEGV');
  t.same(node.took('spawn', 'drain'), ['spawn 1', 'drain 1 40000']);
  node.pass(40_000);
  node.exited(1, null, 'SIGSEGV');
  t.same(node.took('spawn'), [], 'not after it');
  node.exited(2, 0);
  node.exited(0, 0);
  t.same(node.took('finish'), ['finish 1 null']);
});

t.test('the replica is not started again once it was stopped', async (t) => {
  const node = readyNode({ drainMs: 0 });
  node.do({ kind: 'stop' });
  for (const slot of [1, 2]) node.exited(slot, 0);
  node.exited(0, 1);
  node.pass(1_000);
  t.same(node.took('spawn', 'finish'), ['finish 1 null']);
});

t.test('a node that never served stops without waiting for load balancers', async (t) => {
  const node = new SimulatedNode();
  node.start();
  node.readiness(1, false, 'no token');
  node.do({ kind: 'stop' });
  t.same(node.took('drain'), ['drain 1 0', 'drain 2 0']);
});

t.test('children that wait for their restart do not hold up a stop', async (t) => {
  const node = readyNode({ serving: 1, drainMs: 0 });
  for (const slot of [1, 1, 0, 0]) node.exited(slot, 1);
  node.do({ kind: 'stop' });
  t.same(node.took('finish'), ['finish 0 null']);
});

t.test(
  'the watchdog is fed while serving processes answer, or crash, but not while all are stuck',
  async (t) => {
    const node = readyNode();
    t.ok(node.supervision.isSound(node.nowMs));
    node.beating.delete(1);
    node.pass(6_000);
    t.ok(node.supervision.isSound(node.nowMs), 'one answers');
    node.beating.delete(2);
    node.pass(6_000);
    t.notOk(node.supervision.isSound(node.nowMs), 'none answers, and SIGKILL has not ended them');
    for (const slot of [1, 2]) node.exited(slot, null, 'SIGKILL');
    t.ok(node.supervision.isSound(node.nowMs), 'replaced');
    for (let n = 0; n < 5; n++) {
      for (const slot of [1, 2]) node.exited(slot, null, 'SIGSEGV');
      node.pass(100 * 2 ** n);
    }
    t.ok(node.supervision.isSound(node.nowMs), "an HSM's crashing library is no reason");
  },
);
