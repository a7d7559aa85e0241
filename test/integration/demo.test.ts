import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { whileNobodyLogsIn } from '../support/login-lock.js';
import { childrenOf, eventually, isAlive } from '../support/running-node.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** The shell blocks of the README that it says are tested. */
function testedBlocks(): readonly string[] {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  return [...readme.matchAll(/<!-- tested with every change -->\s+```sh\n(.*?)```/gs)].map(
    ([, block = '']) => block,
  );
}

async function shell(
  script: string,
  cwd: string,
): Promise<{ readonly status: number | null; readonly output: string }> {
  const child = spawn('sh', ['-euc', script], { cwd, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [status] = await once(child, 'close');
  return { status: status as number | null, output };
}

t.test(
  'the demo comes up, the README works as printed, a killed node comes back, and Ctrl-C ends all of it',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'xksd-demo-'));
    t.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const home = join(directory, 'var/demo');
    const described = (): { readonly pid: number; readonly dataDir: string } =>
      JSON.parse(readFileSync(join(home, 'nodes.json'), 'utf8'))[0];
    const pid = (): number => described().pid;
    const demo = spawn(process.execPath, [join(root, 'dist/src/demo/main.js'), '--directory', home], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.teardown(() => {
      if (demo.exitCode !== null) return;
      // A demo that is killed leaves its node running: it is the node's supervisor that must go.
      demo.kill('SIGKILL');
      if (existsSync(join(home, 'nodes.json'))) process.kill(pid(), 'SIGKILL');
    });
    let output = '';
    for (const stream of [demo.stdout, demo.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    await eventually('the demo is up', () => {
      if (demo.exitCode !== null) throw new Error(`the demo ended: ${output}`);
      return output.includes('Running.');
    });
    t.equal(statSync(join(home, 'env')).mode & 0o777, 0o600);

    const blocks = testedBlocks();
    t.equal(blocks.length, 3);
    for (const block of blocks) {
      let answer = await shell(block, directory);
      // KMS repeats what came too late, and an operator looks again: a busy machine makes a token slow for a moment.
      const isPassing = (): boolean =>
        answer.status === 3 || /DependencyTimeoutException|ThrottlingException/.test(answer.output);
      for (let turn = 1; turn < 20 && isPassing(); turn += 1) {
        await delay(250);
        answer = await shell(block, directory);
      }
      t.equal(answer.status, 0, answer.output);
      t.notMatch(answer.output, /errorName/);
    }
    const look = await shell(
      '. var/demo/env && pkcs11-tool --module "$PKCS11_MODULE" --token-label "$TOKEN_LABEL" --login --pin "$TOKEN_PIN" --list-objects --type secrkey',
      directory,
    );
    t.match(
      look.output,
      readFileSync(join(home, 'env'), 'utf8').match(/TOKEN_OBJECT_LABEL='(.*)'/)?.[1] ?? 'no label',
    );

    const first = pid();
    await whileNobodyLogsIn(described().dataDir, async () => {
      const all = [first, ...childrenOf(first)];
      process.kill(first, 'SIGKILL');
      await eventually('the node is gone', () => !all.some(isAlive));
    });
    await eventually('the node was started again', () => pid() !== first && pid() > 0);
    await eventually('it serves again', async () =>
      (await shell(blocks[1] ?? 'false', directory)).output.includes('ciphertext'),
    );

    const last = pid();
    const ended = once(demo, 'exit');
    demo.kill('SIGINT');
    t.equal((await ended)[0], 0);
    t.notOk(isAlive(last), 'nothing is left running');
  },
);
