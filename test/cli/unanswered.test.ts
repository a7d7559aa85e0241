import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { stakeOf, unanswered } from '../../src/cli/unanswered.js';
import { adminCommands, isAdminCommand } from '../../src/replica/admin-contract.js';
import { shortDirectory } from '../support/short-directory.js';
import { runXksctl } from './replica-process.js';

const requestId = '01a21b245969-e4e2a261e61f0f5a724f';

t.test('only what changes something under a request id is to be repeated under one', async (t) => {
  const commands = Object.keys(adminCommands).filter(isAdminCommand);
  const without = commands.filter((command) => stakeOf(command, {}) !== 'change');
  t.strictSame(without.sort(), [
    ...[
      'cluster.status',
      'cluster.transfer',
      'credential.list',
      'hsm.list',
      'hsm.login',
      'hsm.probe',
      'hsm.test',
    ],
    ...['key.list', 'key.show', 'keystore.list', 'keystore.show', 'pending.list', 'settings.show', 'status'],
  ]);
  t.equal(stakeOf('key.show', { tokens: true }), 'question', 'the tokens may take longer than a reading');
  t.equal(stakeOf('hsm.probe', { accept: null }), 'question');
  t.equal(stakeOf('hsm.probe', { accept: 'xks' }), 'deed');
  for (const command of commands) {
    const stake = stakeOf(command, {});
    const { exitCode, message } = unanswered(command, stake, requestId, 'why');
    t.equal(exitCode, stake === 'change' || stake === 'deed' ? 11 : 1, command);
    t.equal(message.includes(requestId), stake === 'change', command);
  }
});

/** @returns the path of a socket with somebody behind it who is not xksd. */
async function listen(t: Test, onConnection: (socket: Socket) => void): Promise<string> {
  const path = join(shortDirectory(t), 'other.sock');
  const server: Server = createServer((socket) => onConnection(socket.on('error', () => {})));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => server.close());
  return path;
}

t.test('a replica that ends before it answers', async (t) => {
  const path = await listen(t, (socket) => void socket.once('data', () => socket.destroy()));
  const run = (...args: readonly string[]) => runXksctl(['--socket', path, ...args]);
  const read = await run('key', 'list', 'prod');
  t.match(read, {
    exitCode: 1,
    stderr: /^xksctl: the replica closed the connection before it answered\. .*Try again[^\n]*\n$/,
  });
  t.notMatch(read.stderr, /--request-id/);
  t.match(await run('key', 'disable', 'prod', 'k'), {
    exitCode: 11,
    stderr: /not known: repeat it with --request-id [0-9a-f]{12}-[0-9a-f]{20}, which/,
  });
  t.match(await run('cluster', 'transfer', 'node-2'), {
    exitCode: 11,
    stderr: /not known: look first \(`xksctl cluster status`\), then repeat it\.\n$/,
  });
});

t.test('an answer that is none of xksd: of a change it may have been made all the same', async (t) => {
  const path = await listen(t, (socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}'));
  });
  t.match(await runXksctl(['--socket', path, 'key', 'list', 'prod']), { exitCode: 1 });
  t.match(await runXksctl(['--socket', path, 'key', 'disable', 'prod', 'k']), {
    exitCode: 11,
    stderr: /What was asked may have been done\.\n$/,
  });
});

t.test('Ctrl-C while a change is out says how to repeat it', async (t) => {
  let onAsked = (): void => {};
  const asked = new Promise<void>((resolve) => {
    onAsked = resolve;
  });
  const path = await listen(t, (socket) => void socket.once('data', onAsked));
  const xksctl = fileURLToPath(new URL('../../src/cli/xksctl.js', import.meta.url));
  const child = spawn(process.execPath, [xksctl, '--socket', path, 'key', 'disable', 'prod', 'k'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  await asked;
  child.kill('SIGINT');
  t.same(await once(child, 'close'), [11, null]);
  t.match(
    stderr,
    /^xksctl: interrupted before the replica answered\. .* repeat it with --request-id [0-9a-f-]+, which[^\n]*\n$/,
  );
});
