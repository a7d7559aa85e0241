import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { listenForNotifications } from '../support/notify-socket.js';

const native = loadNativeBinding();
const { errno } = constants;
const nativeModuleUrl = new URL('../../src/base/native.js', import.meta.url).href;

/** Runs `code` as a module with `native` in scope. */
function spawnScript(
  code: string,
  wrapper: readonly string[] = ['env'],
): { readonly process: ChildProcess; line(): Promise<string> } {
  const prelude = `import { loadNativeBinding } from ${JSON.stringify(nativeModuleUrl)};\nconst native = loadNativeBinding();\n`;
  const [command = '', ...rest] = [...wrapper, process.execPath, '--input-type=module', '-e', prelude + code];
  const child = spawn(command, rest, {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    process: child,
    line: async () => String((await lines.next()).value),
  };
}

/** Short enough for sun_path, which `t.testdir()` is not. */
function socketDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  return directory;
}

t.test('sdNotify sends one datagram to a path and to an abstract name', async (t) => {
  for (const name of [join(socketDirectory(t), 'notify.sock'), `@xksd-test-${process.pid}`]) {
    const socket = await listenForNotifications(name);
    t.teardown(() => socket.close());
    t.equal(native.sdNotify(name, 'READY=1\nSTATUS=grüße'), 0);
    t.equal(native.sdNotify(name, 'WATCHDOG=1'), 0);
    t.equal(await socket.next(), 'READY=1\nSTATUS=grüße');
    t.equal(await socket.next(), 'WATCHDOG=1');
  }
});

t.test('sdNotify says with an errno why nothing was sent', async (t) => {
  t.equal(native.sdNotify(join(socketDirectory(t), 'nobody.sock'), 'READY=1'), errno.ENOENT);
  t.equal(native.sdNotify('relative.sock', 'READY=1'), errno.EAFNOSUPPORT);
  t.equal(native.sdNotify('', 'READY=1'), errno.EAFNOSUPPORT);
  t.equal(native.sdNotify(`/${'x'.repeat(107)}`, 'READY=1'), errno.ENAMETOOLONG);
  t.equal(native.sdNotify(`@${'x'.repeat(107)}`, 'READY=1'), errno.ECONNREFUSED, 'fills sun_path exactly');
  t.equal(native.sdNotify(`@${'x'.repeat(108)}`, 'READY=1'), errno.ENAMETOOLONG);
});

t.test('bindTcp listens on IPv4 and IPv6 literals, and Node accepts on the descriptor', async (t) => {
  for (const address of ['127.0.0.1', '::1']) {
    const fd = native.bindTcp(address, 0, 16);
    t.ok(fd >= 0, `descriptor for ${address}`);
    const port = native.boundPort(fd);
    t.ok(port > 0);
    const server = createServer((socket) => socket.end('hello')).listen({ fd });
    t.teardown(() => server.close());
    await once(server, 'listening');
    const client = connect(port, address);
    const [data] = await once(client, 'data');
    t.equal(String(data), 'hello');
    client.destroy();
  }
});

t.test('bindTcp refuses taken ports, foreign addresses and names', async (t) => {
  const fd = native.bindTcp('127.0.0.1', 0, 16);
  t.teardown(() => native.closeFd(fd));
  t.equal(native.bindTcp('127.0.0.1', native.boundPort(fd), 16), -errno.EADDRINUSE);
  t.equal(native.bindTcp('192.0.2.1', 0, 16), -errno.EADDRNOTAVAIL);
  t.equal(native.bindTcp('localhost', 0, 16), -errno.EINVAL);
  t.equal(native.bindTcp('127.0.0.1', 65_536, 16), -errno.EINVAL);
  t.throws(() => native.bindTcp('127.0.0.1', '1' as unknown as number, 16), { name: 'TypeError' });
});

t.test('bindTcp on [::] takes IPv4 too', async (t) => {
  const fd = native.bindTcp('::', 0, 16);
  t.teardown(() => native.closeFd(fd));
  const client = connect(native.boundPort(fd), '127.0.0.1');
  await once(client, 'connect');
  client.destroy();
});

t.test('descriptors are close-on-exec, duplicated and closed', async (t) => {
  const fd = native.bindTcp('127.0.0.1', 0, 16);
  const copy = native.duplicateFd(fd);
  t.ok(copy > 2 && copy !== fd);
  t.equal(native.boundPort(copy), native.boundPort(fd));
  const closeOnExec = 0o2000000;
  for (const each of [fd, copy]) {
    const flags = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${each}`, 'utf8'))?.[1];
    t.not(Number.parseInt(flags ?? '0', 8) & closeOnExec, 0, 'not inherited by accident');
  }
  t.equal(native.closeFd(fd), 0);
  t.ok(native.boundPort(copy) > 0, 'the copy outlives the original');
  t.equal(native.closeFd(copy), 0);
  t.throws(() => fstatSync(copy), { code: 'EBADF' });
  t.equal(native.closeFd(copy), errno.EBADF);
  t.equal(native.duplicateFd(copy), -errno.EBADF);
  t.equal(native.boundPort(copy), -errno.EBADF);
});

t.test('setParentDeathSignal ends the child with its parent', async (t) => {
  const grandchild = `
    import { loadNativeBinding } from ${JSON.stringify(nativeModuleUrl)};
    console.log(loadNativeBinding().setParentDeathSignal(9));
    setInterval(() => {}, 1000);`;
  const parent = spawnScript(`
    import { spawn } from 'node:child_process';
    spawn(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(grandchild)}], { stdio: ['ignore', 'inherit', 'inherit'] });
  `);
  t.equal(await parent.line(), '0');
  // The grandchild holds the other end of this pipe as well, so it closes when both have ended.
  const closed = once(parent.process, 'close');
  parent.process.kill('SIGKILL');
  await closed;
});

t.test('forbidCoreDumps takes away dumpability and the core limit', async (t) => {
  // Only a dumpable process shows what it runs to others of its user (proc_pid_exe(5)); root is made an ordinary user
  // in this one respect.
  const ordinary = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-sys_ptrace'] : ['env'];
  const child = spawnScript(
    `
    import { readFileSync } from 'node:fs';
    console.log('started');
    await new Promise((resolve) => process.stdin.once('data', resolve));
    console.log(native.forbidCoreDumps());
    console.log(JSON.stringify(/^Max core file size +(\\S+) +(\\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')).slice(1)));
    setInterval(() => {}, 1000);
  `,
    ordinary,
  );
  t.teardown(() => child.process.kill('SIGKILL'));
  const readable = (): boolean => {
    const [command = '', ...rest] = [...ordinary, 'readlink', `/proc/${child.process.pid}/exe`];
    return spawnSync(command, rest, { stdio: 'ignore' }).status === 0;
  };
  t.equal(await child.line(), 'started');
  t.ok(readable());
  child.process.stdin?.write('go\n');
  t.equal(await child.line(), '0');
  t.same(JSON.parse(await child.line()), ['0', '0']);
  t.notOk(readable());
});

t.test('tryLockFile refuses what another open file holds', async (t) => {
  const path = join(t.testdir({ lock: '' }), 'lock');
  const first = openSync(path, 'r+');
  const second = openSync(path, 'r+');
  t.teardown(() => closeSync(second));
  t.equal(native.tryLockFile(first), 0);
  t.equal(native.tryLockFile(second), errno.EWOULDBLOCK);
  closeSync(first);
  t.equal(native.tryLockFile(second), 0);
  t.equal(native.tryLockFile(-1), errno.EBADF);
});

t.test('peerCredentials names the process behind a unix socket, and no other', async (t) => {
  const path = join(socketDirectory(t), 'peer.sock');
  const accepted = new Promise<number>((resolve) => {
    const server = createServer((socket) => {
      resolve((socket as unknown as { _handle: { fd: number } })._handle.fd);
      t.teardown(() => {
        socket.destroy();
        server.close();
      });
    }).listen(path);
  });
  const client = spawnScript(`
    import { connect } from 'node:net';
    connect(${JSON.stringify(path)}).on('error', () => process.exit());
  `);
  t.teardown(() => client.process.kill('SIGKILL'));
  t.same(native.peerCredentials(await accepted), {
    pid: client.process.pid,
    uid: process.getuid?.(),
    gid: process.getgid?.(),
  });
  const tcp = native.bindTcp('127.0.0.1', 0, 1);
  t.teardown(() => native.closeFd(tcp));
  t.equal(native.peerCredentials(tcp), null);
  t.equal(native.peerCredentials(-1), null);
});

t.test('bootTimeMs goes on and is not behind the uptime', async (t) => {
  const uptimeMs = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1_000;
  const now = native.bootTimeMs();
  t.ok(now >= uptimeMs);
  t.ok(native.bootTimeMs() >= now);
});

t.test('every worker thread gets working exports of its own', async (t) => {
  const { Worker } = await import('node:worker_threads');
  const worker = new Worker(
    `import(${JSON.stringify(nativeModuleUrl)}).then(({ loadNativeBinding }) => {
       require('node:worker_threads').parentPort.postMessage(loadNativeBinding().bootTimeMs());
     });`,
    { eval: true },
  );
  const [value] = await once(worker, 'message');
  t.type(value, 'number');
  await worker.terminate();
  t.type(native.bootTimeMs(), 'number');
});
