import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type DebianPackage, ensureDebianPackages, libraryDirectory } from '../src/demo/debian-packages.js';
import { haproxyPackage } from './chaos/haproxy.js';
import { ensurePromtool, promtoolDirectory } from './support/promtool.js';
import { tapFailures } from './support/tap-failures.js';

/**
 * `npm test [-- FILE …]`: makes sure that the real parts the tests talk to are there, then runs every test file (or
 * those given), each in a process of its own, two at a time. Writes the counts to `dist/test-results.json`.
 *
 * The files are tap tests and are run by node itself: `tap run` puts its loaders into every process that a test starts,
 * so that it would be another server than ours that is killed, drained and measured.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const tests = join(root, 'dist/test');
const resultsFile = join(root, 'dist/test-results.json');

/** Two cores are what continuous integration has. */
const filesAtOnce = 2;
/** What waits for what never comes; several times what any file takes on a machine that is busy with other things. */
const testTimeoutSeconds = 900;
const fileTimeoutMs = 960_000;

const realParts: readonly DebianPackage[] = [
  { name: 'softhsm2', provides: 'softhsm2-util' },
  { name: 'libnss3', provides: `${libraryDirectory}/libnss3.so` },
  { name: 'libnss3-tools', provides: 'certutil' },
  { name: 'opensc', provides: 'pkcs11-tool' },
  { name: 'p11-kit', provides: 'p11-kit' },
  { name: 'valgrind', provides: 'valgrind' },
  { name: 'openssl', provides: 'openssl' },
  { name: 'curl', provides: 'curl' },
  haproxyPackage,
  { name: 'systemd', provides: 'systemd-analyze' },
];

/** Whole nodes first: they take longest, and two of the longest must not be left to the end. */
function testFiles(): readonly string[] {
  const files = readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => relative(root, join(tests, name)));
  const rank = (file: string): number => (/\/(integration|hsm|native|cli)\//.test(file) ? 0 : 1);
  return files.sort((left, right) => rank(left) - rank(right) || left.localeCompare(right));
}

interface FileResult {
  readonly file: string;
  readonly passed: number;
  readonly failed: number;
  /** What did not hold, as tap says it. */
  readonly failures: readonly string[];
}

async function runFile(file: string): Promise<FileResult> {
  const startMs = performance.now();
  const child = spawn(process.execPath, ['--enable-source-maps', file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      PATH: `${promtoolDirectory}:${process.env['PATH'] ?? ''}`,
      TAP_TIMEOUT: String(testTimeoutSeconds),
    },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const timer = setTimeout(() => child.kill('SIGKILL'), fileTimeoutMs);
  const [code] = await once(child, 'close');
  clearTimeout(timer);
  // tap ends with `# { total: 12, pass: 11, fail: 1 }`; skipped and unfinished ones are failures here.
  const counts = output.match(/^# \{ total: (\d+), pass: (\d+).*\}$/m);
  const passed = Number(counts?.[2] ?? 0);
  const failed = Number(counts?.[1] ?? 0) - passed;
  const failures = tapFailures(output);
  const result = { file, passed, failed: code === 0 && passed > 0 ? failed : Math.max(1, failed), failures };
  const seconds = ((performance.now() - startMs) / 1_000).toFixed(1);
  console.log(
    `${result.failed === 0 ? 'ok    ' : 'FAILED'} ${seconds.padStart(6)} s  ${passed} passed  ${file}`,
  );
  // What held says nothing of what did not, and hides it where only a part of this is kept.
  if (result.failed > 0) {
    const telling = output
      .trimEnd()
      .split('\n')
      .filter((line) => !/^ *ok /.test(line));
    console.log(`${telling.join('\n')}\n(${file} ended with ${code ?? 'a signal'})`);
  }
  return result;
}

const say = (line: string): void => console.error(`npm test: ${line}`);
for (const ensured of [ensureDebianPackages(realParts, say), ensurePromtool(say)]) {
  if (!ensured.ok) {
    say(ensured.error);
    process.exit(1);
  }
}

const given = process.argv.slice(2);
const queue = given.length > 0 ? [...given] : [...testFiles()];
const results: FileResult[] = [];
await Promise.all(
  Array.from({ length: filesAtOnce }, async () => {
    for (let file = queue.shift(); file !== undefined; file = queue.shift())
      results.push(await runFile(file));
  }),
);
const sum = (count: (result: FileResult) => number): number =>
  results.reduce((total, one) => total + count(one), 0);
const [passed, failed] = [sum((one) => one.passed), sum((one) => one.failed)];
writeFileSync(resultsFile, `${JSON.stringify({ passed, failed })}\n`);
for (const { file, failures } of results.filter((one) => one.failed > 0)) {
  console.log([`FAILED ${file}`, ...failures].join('\n'));
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
