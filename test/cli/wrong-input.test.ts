import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { shortDirectory } from '../support/short-directory.js';
import { nodeFiles, runXksctl, startReplica } from './replica-process.js';

t.test('what is wrong on the command line is one line, and exit 2', async (t) => {
  const cases: readonly [readonly string[], RegExp][] = [
    [['--socket', '', 'status'], /--socket is empty/],
    [['--config', '', 'status'], /--config is empty/],
    [['key', 'show', 'prod', ''], /external-key-id is empty/],
    [['keystore', 'create', '', '--region', 'eu-west-1'], /name is empty/],
    [['keystore', 'create', 'a', '--region', 'eu-west-1', '--region', ''], /--region is empty/],
    [['hsm', 'probe', '--accept', ''], /--accept is empty/],
    [['credential', 'create', 'prod', '--kms-config', ''], /--kms-config is empty/],
    [['cluster', 'add', 'n', '--address', 'host'], /'--address .*HOST:PORT/],
    [['cluster', 'add', 'n', '--address', 'host:0'], /'--address .*HOST:PORT/],
    [['cluster', 'add', 'n'.repeat(64), '--address', 'host:1'], /1 to 63 letters/],
    [['cluster', 'add', 'node-', '--address', 'host:1'], /end with a letter or digit/],
    [['cluster', 'settings', 'sett'], /unknown command 'sett': it is `cluster settings show` or/],
    [['keystore', 'set', 'a', '--on-isolation', 'stop', '--bound', '0x10'], /'--bound/],
    [['keystore', 'set', 'a', '--on-isolation', 'stop', '--bound', ' 7'], /'--bound/],
    [['keystore', 'set', 'a', '--on-isolation', 'stop', '--bound', '1e1'], /'--bound/],
    [['--config', '/nonexistent', 'status'], /configuration \/nonexistent: no such file/],
    [['--config', '/dev/zero', 'status'], /configuration \/dev\/zero: not a regular file/],
    [['--config', '/dev/zero', 'cluster', 'init'], /configuration \/dev\/zero: not a regular file/],
  ];
  await Promise.all(
    cases.map(async ([args, reason]) => {
      const { exitCode, stdout, stderr } = await runXksctl(args);
      t.strictSame({ exitCode, stdout }, { exitCode: 2, stdout: '' }, args.join(' '));
      t.match(stderr, /^xksctl: [^\n]+\n$/, args.join(' '));
      t.match(stderr, reason);
    }),
  );
});

t.test('what may be empty may be: a prefix, a description', async (t) => {
  const none = ['--socket', '/nonexistent/admin.sock'];
  const prefix = ['keystore', 'create', 'a', '--region', 'eu-west-1', '--uri-path-prefix', ''];
  t.match(await runXksctl([...none, ...prefix]), { exitCode: 1, stderr: /there is no socket/ });
  const description = ['key', 'generate', 'a', '--description', ''];
  t.match(await runXksctl([...none, ...description]), { exitCode: 1, stderr: /there is no socket/ });
});

t.test('an admin socket that is none', async (t) => {
  const file = join(nodeFiles(t).directory, 'file');
  writeFileSync(file, '');
  t.match(await runXksctl(['--socket', file, 'status']), { exitCode: 1, stderr: /\/file is no socket/ });
});

t.test('a standard output that takes nothing: what was done is not said to have failed', async (t) => {
  const { files } = await startReplica(t);
  const xksctl = fileURLToPath(new URL('../../src/cli/xksctl.js', import.meta.url));
  const create = ['keystore', 'create', 'full', '--region', 'eu-west-1'];
  const full = openSync('/dev/full', 'w');
  t.teardown(() => closeSync(full));
  const child = spawn(process.execPath, [xksctl, '--socket', files.adminSocket, ...create], {
    stdio: ['ignore', full, 'pipe'],
  });
  let stderr = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  t.same(await once(child, 'close'), [1, null]);
  t.match(stderr, /^xksctl: the answer could not be written to standard output \(ENOSPC\); .* was done/m);
  const isolated = ['keystore', 'set', 'full', '--on-isolation', 'stop', '--bound', '7.5', '-o', 'json'];
  const set = await runXksctl(['--socket', files.adminSocket, ...isolated]);
  t.match(JSON.parse(set.stdout), { keyStore: { name: 'full', onIsolation: { boundMs: 7_500 } } });
});

t.test('a rule for isolated nodes takes nothing out of use, and is not said to', async (t) => {
  const path = join(shortDirectory(t), 'replica.sock');
  const keyStore = {
    ...{ name: 'a', uriPathPrefix: 'a', uriPath: '/a/kms/xks/v1', regions: ['eu-west-1'], adopted: false },
    ...{ status: 'ENABLED', onIsolation: { rule: 'stop', boundMs: 6_000 }, createdAtMs: 0, revision: 1 },
    ...{ credentials: 0, keys: 0 },
  };
  const change = { index: 1, repeated: false, applied: true, unconfirmed: [] };
  const server = createServer((_, response) => response.end(JSON.stringify({ keyStore, change })));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => server.close());
  const run = (...args: readonly string[]) => runXksctl(['--socket', path, 'keystore', ...args]);
  const set = await run('set', 'a', '--on-isolation', 'stop', '--bound', '6');
  t.match(set, { exitCode: 0, stderr: 'Every serving process of this node goes by it.\n' });
  const disabled = await run('disable', 'a');
  t.match(disabled, { exitCode: 0, stderr: 'Every serving process of this node has stopped using it.\n' });
});
