import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { makeFaultShim } from '../support/fault-shim.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');
/** Collects what a child prints, and tells when a line has come. */
function watch(child: ChildProcess): { printed(line: string): Promise<void>; readonly text: () => string } {
  let text = '';
  let changed = (): void => {};
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (chunk: Buffer) => {
      text += chunk.toString();
      changed();
    });
  }
  const ended = once(child, 'close');
  return {
    text: () => text,
    async printed(line) {
      while (!text.split('\n').includes(line)) {
        if (child.exitCode !== null) throw new Error(`ended without "${line}":\n${text}`);
        await Promise.race([
          ended,
          new Promise<void>((resolve) => {
            changed = resolve;
          }),
        ]);
      }
    },
  };
}

interface Checker {
  readonly name: string;
  readonly flags: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  /** What runs the driver. */
  readonly command: readonly string[];
  /** The sanitizers' run times refuse RTLD_DEEPBIND. */
  readonly withoutDeepBind: boolean;
}

const sanitizer = (names: string, environment: Checker['environment']): Checker => ({
  name: `-fsanitize=${names}`,
  flags: ['-O0', `-fsanitize=${names}`, '-fno-sanitize-recover=all'],
  environment,
  command: [],
  withoutDeepBind: true,
});

/** Sees the module's own code, too. `fair-sched`: threads that wait for each other take turns. */
const valgrind: Checker = {
  name: 'valgrind',
  flags: ['-O1'],
  environment: {},
  command: [
    ...[
      'valgrind',
      '--quiet',
      '--error-exitcode=9',
      '--fair-sched=yes',
      `--suppressions=${join(root, 'test/native/valgrind.supp')}`,
    ],
    ...[
      '--leak-check=full',
      '--show-leak-kinds=definite,indirect',
      '--errors-for-leak-kinds=definite,indirect',
    ],
  ],
  withoutDeepBind: false,
};

for (const { name, flags, environment, command, withoutDeepBind } of [
  sanitizer('address,undefined', {
    ASAN_OPTIONS: 'detect_leaks=1:abort_on_error=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  }),
  // What the vendor's module does between its own threads cannot be seen into.
  sanitizer('thread', { TSAN_OPTIONS: 'ignore_noninstrumented_modules=1' }),
  valgrind,
]) {
  t.test(`the hot path under ${name}: nothing to report`, async (t) => {
    const token = await makeSoftHsmToken(t);
    const shim = await makeFaultShim(t, token.modulePath, { withoutDeepBind });
    const directory = await mkdtemp(join(tmpdir(), 'xksd-sanitizer-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const driver = join(directory, 'driver');
    const source = join(root, 'test/native/sanitizer-driver.cc');
    const all = ['-std=c++17', '-Wall', '-Wextra', '-Werror', '-g', ...flags];
    await run('g++', [...all, source, '-o', driver, '-ldl', '-lpthread']);
    const [program = driver, ...args] = [...command, driver];
    const child = spawn(
      program,
      [...args, shim.modulePath, token.label, token.pin, `${shim.modulePath}.faults`],
      {
        env: { ...process.env, ...token.env, ...environment },
      },
    );
    t.teardown(() => child.kill('SIGKILL'));
    const output = watch(child);
    const closed = once(child, 'close');
    const hung = [shim.nextHang(), shim.nextHang()];
    await output.printed('hanging');
    const calls = await Promise.all(hung);
    child.stdin.write('\n');
    await output.printed('closed');
    for (const call of calls) call.release();
    const [code, signal] = await closed;
    t.strictSame(
      { code, signal, output: output.text() },
      { code: 0, signal: null, output: 'hanging\nclosed\n' },
    );
  });
}
