import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { err, ok, type Result } from '../../src/base/result.js';

const tools = join(dirname(fileURLToPath(import.meta.url)), '../../../var/tools');

/** Where promtool is when it isn't on the PATH. */
export const promtoolDirectory = join(tools, 'prometheus/usr/bin');

/**
 * Debian ships promtool inside the `prometheus` package, whose installation starts a server. The tests want the tool
 * alone, so the package is unpacked under `var/` and not installed.
 */
export function ensurePromtool(log: (line: string) => void): Result<void, string> {
  const onPath = (process.env['PATH'] ?? '')
    .split(delimiter)
    .some((folder) => existsSync(join(folder, 'promtool')));
  if (onPath || existsSync(join(promtoolDirectory, 'promtool'))) return ok(undefined);
  log('unpacking promtool from the Debian package prometheus');
  mkdirSync(tools, { recursive: true });
  const scratch = mkdtempSync(join(tools, 'unpack-'));
  try {
    const download = (): number | null =>
      spawnSync('apt-get', ['download', 'prometheus'], { cwd: scratch, stdio: 'ignore' }).status;
    if (download() !== 0) {
      spawnSync('apt-get', ['update'], { stdio: 'ignore' });
      if (download() !== 0)
        return err(
          'apt-get could not download the package prometheus, which has promtool; install it by hand',
        );
    }
    const archive = readdirSync(scratch).find((name) => name.endsWith('.deb'));
    if (archive === undefined) return err('apt-get downloaded no package file for prometheus');
    const unpacked = join(scratch, 'prometheus');
    if (spawnSync('dpkg-deb', ['-x', join(scratch, archive), unpacked], { stdio: 'ignore' }).status !== 0) {
      return err(`dpkg-deb could not unpack ${archive}`);
    }
    renameSync(unpacked, join(tools, 'prometheus'));
    return ok(undefined);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
