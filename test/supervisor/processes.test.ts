import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { makeCertificates } from '../../src/demo/certificates.js';
import { listenForNotifications, type NotifySocket } from '../support/notify-socket.js';

const program = fileURLToPath(new URL('../support/supervisor-process.js', import.meta.url));

const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
t.teardown(() => rmSync(directory, { recursive: true }));
const certificates = await makeCertificates({ directory, names: ['localhost'], ips: ['127.0.0.1'] });
const otherCertificates = await makeCertificates({
  directory: join(directory, 'other'),
  names: ['x'],
  ips: [],
});

type Line = Readonly<Record<string, unknown>>;

class RunningSupervisor {
  readonly process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  stderr = '';

  constructor(t: Test, options: { config?: string; environment?: Readonly<Record<string, string>> } = {}) {
    const config = join(t.testdir(), 'xksd.toml');
    writeFileSync(config, options.config ?? configuration(), { mode: 0o600 });
    this.process = spawn(process.execPath, [program, config], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...options.environment },
    });
    t.teardown(() => this.process.kill('SIGKILL'));
    const { stdout, stderr } = this.process;
    if (stdout === null || stderr === null) throw new Error('no pipes');
    stderr.on('data', (chunk) => {
      this.stderr += String(chunk);
    });
    this.#lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
  }

  /** The next log line that has these fields. */
  async line(fields: Line): Promise<Line> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error(`the log ended before ${JSON.stringify(fields)}; ${this.stderr}`);
      const line = JSON.parse(value) as Line;
      if (Object.entries(fields).every(([name, expected]) => line[name] === expected)) return line;
    }
  }

  async exit(): Promise<{ code: number | null; signal: string | null }> {
    if (this.process.exitCode === null && this.process.signalCode === null) await once(this.process, 'exit');
    return { code: this.process.exitCode, signal: this.process.signalCode };
  }

  /** When the log's last writer has ended: the supervisor and all of its children. */
  async allEnded(): Promise<void> {
    for (let line = await this.#lines.next(); line.done !== true; ) line = await this.#lines.next();
  }
}

function configuration(changes: { certificate?: string; metrics?: string } = {}): string {
  return `
[node]
name = "test"
data_dir = "${directory}/data"
runtime_dir = "${directory}/run"
[xks]
listen = "127.0.0.1:0"
tls_certificate = "${changes.certificate ?? certificates.certificate}"
tls_private_key = "${certificates.key}"
[health]
listen = "127.0.0.1:0"
[metrics]
listen = "${changes.metrics ?? '127.0.0.1:0'}"
[serving]
processes = 2
drain_seconds = 0
[[hsm]]
uri = "pkcs11:token=xks?module-path=/x.so&pin-value=4711'x"
`;
}

interface Self {
  readonly pid: number;
  readonly slot: number;
  readonly nodeName: string;
  readonly knowsPin: boolean;
  readonly notifySocket: string | null;
  readonly fleet: { readonly readyServingProcesses: number; readonly servingProcesses: number };
}

async function ask(address: unknown): Promise<Self> {
  const { body } = await request(`http://${String(address)}/`);
  return (await body.json()) as Self;
}

/** Started, with all children ready. */
async function runningNode(t: Test, environment: Readonly<Record<string, string>> = {}) {
  const supervisor = new RunningSupervisor(t, { environment });
  const { xks, metrics } = await supervisor.line({ message: 'starting' });
  for (let ready = 0; ready < 3; ready++) await supervisor.line({ message: 'child is ready' });
  return { supervisor, xks, metrics };
}

async function notifySocket(t: Test, name: string): Promise<{ path: string; socket: NotifySocket }> {
  const path = join(directory, name);
  const socket = await listenForNotifications(path);
  t.teardown(() => socket.close());
  return { path, socket };
}

t.test('children inherit their listeners, their place and the configuration, but not systemd', async (t) => {
  const { path } = await notifySocket(t, 'inherit.sock');
  const { supervisor, xks, metrics } = await runningNode(t, { NOTIFY_SOCKET: path });
  const replica = await ask(metrics);
  t.equal(replica.slot, 0);
  const serving = await ask(xks);
  t.ok(serving.slot === 1 || serving.slot === 2);
  t.match(serving, { notifySocket: null, healthFd: '5', nodeName: 'test', knowsPin: true });
  t.match(replica, { knowsPin: false }, 'only serving processes log in');
  supervisor.process.kill('SIGTERM');
  t.same(await supervisor.exit(), { code: 0, signal: null });
});

t.test(
  'a serving process that is killed is replaced in its slot, while its listener goes on answering',
  async (t) => {
    const { supervisor, xks } = await runningNode(t);
    const victim = await ask(xks);
    process.kill(victim.pid, 'SIGKILL');
    t.match(await ask(xks), { slot: Number }, 'answered by one or the other');
    t.match(await supervisor.line({ message: 'child died' }), { childSlot: victim.slot, signal: 'SIGKILL' });
    await supervisor.line({ message: 'child is ready', childSlot: victim.slot });
    supervisor.process.kill('SIGTERM');
    t.same(await supervisor.exit(), { code: 0, signal: null });
  },
);

t.test('a serving process that is stopped is replaced', async (t) => {
  const { supervisor, xks } = await runningNode(t);
  const victim = await ask(xks);
  process.kill(victim.pid, 'SIGSTOP');
  await supervisor.line({ message: 'child does not answer, replacing it', childSlot: victim.slot });
  await supervisor.line({ message: 'child is ready', childSlot: victim.slot });
  supervisor.process.kill('SIGTERM');
  t.same(await supervisor.exit(), { code: 0, signal: null });
});

t.test('killing the supervisor ends its children', async (t) => {
  const { supervisor, xks } = await runningNode(t);
  const stopped = await ask(xks);
  process.kill(stopped.pid, 'SIGSTOP');
  supervisor.process.kill('SIGKILL');
  await supervisor.exit();
  // A stopped process cannot end itself, yet it is gone: it held an end of this pipe.
  await supervisor.allEnded();
  t.pass();
});

t.test('systemd hears READY, the status, the watchdog and STOPPING', async (t) => {
  const { path, socket } = await notifySocket(t, 'notify.sock');
  const { supervisor } = await runningNode(t, { NOTIFY_SOCKET: path, WATCHDOG_USEC: '50000' });
  const heard: string[] = [];
  const until = async (expected: RegExp): Promise<void> => {
    for (;;) {
      const message = await socket.next();
      heard.push(message);
      if (expected.test(message)) return;
    }
  };
  await until(/^READY=1\nSTATUS=[012] of 2 serving processes ready/);
  await until(/^WATCHDOG=1$/);
  supervisor.process.kill('SIGINT');
  await until(/^STOPPING=1\n/);
  t.equal(heard.filter((message) => message.startsWith('READY=1')).length, 1);
  t.same(await supervisor.exit(), { code: 0, signal: null });
  await supervisor.allEnded();
});

t.test('a replica that only a person can help ends the node with its message', async (t) => {
  const supervisor = new RunningSupervisor(t, {
    environment: { TEST_REPLICA_FATAL: 'the data directory belongs to node xks-2' },
  });
  t.same(await supervisor.exit(), { code: 2, signal: null });
  await supervisor.allEnded();
  t.equal(supervisor.stderr, 'xksd: the data directory belongs to node xks-2\n');
});

t.test('a node whose data directory it may not have starts nothing', async (t) => {
  const supervisor = new RunningSupervisor(t, { environment: { TEST_OBSTACLE: 'another xksd has it' } });
  t.same(await supervisor.exit(), { code: 2, signal: null });
  await t.rejects(supervisor.line({ message: 'starting' }), /the log ended/);
  t.equal(supervisor.stderr, 'xksd: another xksd has it\n');
});

t.test('what is wrong before anything starts is one line', async (t) => {
  const squatter = createServer().listen(0, '127.0.0.1');
  t.teardown(() => squatter.close());
  await once(squatter, 'listening');
  const address = squatter.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const taken = `127.0.0.1:${address.port}`;
  const cases: readonly [config: string, code: number, line: RegExp][] = [
    [
      '[xks]\nlisen = 1',
      2,
      /^xksd: configuration \S+\/xksd\.toml: .*unknown key "lisen" in \[xks\]: did you mean "listen"\?\n$/,
    ],
    [
      configuration({ certificate: otherCertificates.certificate }),
      2,
      /^xksd: TLS certificate \S+: the private key \S+ is not that of "CN=x"\n$/,
    ],
    [
      configuration({ metrics: taken }),
      1,
      new RegExp(
        `^xksd: cannot listen on ${taken} \\(\\[metrics\\] listen\\): another process has this port \\(EADDRINUSE\\)\\n$`,
      ),
    ],
    [
      configuration({ metrics: '192.0.2.1:9464' }),
      1,
      /^xksd: cannot listen on 192\.0\.2\.1:9464 \(\[metrics\] listen\): no interface of this host has this address/,
    ],
  ];
  for (const [config, code, line] of cases) {
    const supervisor = new RunningSupervisor(t, { config });
    t.same(await supervisor.exit(), { code, signal: null });
    await supervisor.allEnded();
    t.match(supervisor.stderr, line);
  }
});
