import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { err, ok, type Result } from '../base/result.js';

/** A Debian package and a file or a program on `PATH` that shows it is there, whoever installed it. */
export interface DebianPackage {
  readonly name: string;
  /** A program's name, or an absolute path. */
  readonly provides: string;
}

/** Debian's folder of shared libraries for this machine, e.g. `/usr/lib/x86_64-linux-gnu`. */
export const libraryDirectory = `/usr/lib/${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}-linux-gnu`;

const installTimeoutMs = 300_000;

function present(provides: string): boolean {
  const candidates = provides.startsWith('/')
    ? [provides]
    : [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'].map((folder) =>
        join(folder, provides),
      );
  return candidates.some((path) => {
    try {
      accessSync(path, constants.R_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The packages of `wanted` that are not there. */
function missingPackages(wanted: readonly DebianPackage[]): readonly DebianPackage[] {
  return wanted.filter((candidate) => !present(candidate.provides));
}

/** The command line that runs `apt-get` as root, or `null` where this user cannot. */
function aptGet(): readonly string[] | null {
  if (!present('apt-get')) return null;
  if (process.getuid?.() === 0) return ['apt-get'];
  return spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' }).status === 0
    ? ['sudo', '-n', 'apt-get']
    : null;
}

/**
 * Installs what is missing of `wanted`, through apt and nothing else. On failure the error is one sentence with the
 * command that a person with the rights can run.
 */
export function ensureDebianPackages(
  wanted: readonly DebianPackage[],
  log: (line: string) => void,
): Result<void, string> {
  const missing = missingPackages(wanted);
  if (missing.length === 0) return ok(undefined);
  const names = missing.map((candidate) => candidate.name).join(' ');
  const remedy = `install it by hand: apt-get install ${names}`;
  const command = aptGet();
  if (command === null) {
    return err(`missing: ${names}; this user cannot install Debian packages here, so ${remedy}`);
  }
  log(`installing Debian packages: ${names}`);
  const run = (...args: readonly string[]): { status: number | null; output: string } => {
    const [program = 'apt-get', ...before] = command;
    const { status, stdout, stderr, error } = spawnSync(program, [...before, ...args], {
      encoding: 'utf8',
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: installTimeoutMs,
    });
    return { status, output: error?.message ?? `${stdout}${stderr}` };
  };
  const install = ['install', '-y', '--no-install-recommends', ...missing.map((candidate) => candidate.name)];
  // A list of packages may be missing or old: refresh it only when the install needs that.
  if (run(...install).status !== 0) {
    run('update');
    const second = run(...install);
    if (second.status !== 0) {
      const reason = second.output.trim().split('\n').at(-1) ?? '';
      return err(`apt-get could not install ${names} (${reason}); ${remedy}`);
    }
  }
  const still = missingPackages(missing).map((candidate) => `${candidate.name} (${candidate.provides})`);
  return still.length === 0
    ? ok(undefined)
    : err(`installed, but not found where expected: ${still.join(', ')}`);
}
