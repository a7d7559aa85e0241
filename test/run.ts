import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type DebianPackage, ensureDebianPackages, libraryDirectory } from '../src/demo/debian-packages.js';
import { ensurePromtool, promtoolDirectory } from './support/promtool.js';

/**
 * `npm test`: makes sure that the real parts the tests talk to are there, then runs every test file. Arguments are
 * passed on to tap: `npm test -- dist/test/xks/errors.test.js`, `npm test -- --reporter=tap`.
 */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const tests = join(root, 'dist/test');

const realParts: readonly DebianPackage[] = [
  { name: 'softhsm2', provides: 'softhsm2-util' },
  { name: 'libnss3', provides: `${libraryDirectory}/libnss3.so` },
  { name: 'libnss3-tools', provides: 'certutil' },
  { name: 'opensc', provides: 'pkcs11-tool' },
  { name: 'openssl', provides: 'openssl' },
  { name: 'curl', provides: 'curl' },
  { name: 'systemd', provides: 'systemd-analyze' },
];

function testFiles(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => relative(root, join(directory, name)))
    .sort();
}

const say = (line: string): void => console.error(`npm test: ${line}`);
for (const ensured of [ensureDebianPackages(realParts, say), ensurePromtool(say)]) {
  if (!ensured.ok) {
    say(ensured.error);
    process.exit(1);
  }
}

const given = process.argv.slice(2);
const files = given.some((argument) => argument.endsWith('.test.js')) ? [] : testFiles(tests);
const { status, signal } = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules/tap/dist/esm/run.mjs'),
    'run',
    '--jobs=2',
    '--reporter=terse',
    '--output-file=dist/test-results.tap',
    ...given,
    ...files,
  ],
  {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, PATH: `${promtoolDirectory}:${process.env['PATH'] ?? ''}`, TAP_FORCE_TTY: '0' },
  },
);
process.exit(signal === null ? (status ?? 1) : 1);
