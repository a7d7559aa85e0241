import { execFile } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isErrno } from '../../src/replication/file-operations.js';

const run = promisify(execFile);

/** The ballast and a little more. */
const sizeMiB = 20;
const fillerName = 'filler';

const asRoot = (...command: readonly string[]): readonly string[] =>
  process.getuid?.() === 0 ? command : ['sudo', '-n', ...command];

async function runAsRoot(...command: readonly string[]): Promise<void> {
  const [program = '', ...args] = asRoot(...command);
  await run(program, args);
}

/** Also while files in it are open: it goes with the last of them. */
export const unmount = (directory: string): Promise<void> => runAsRoot('umount', '-l', directory);

/** A file system of its own in `directory`, which can be filled without harm to anybody. Needs the right to mount. */
export class SmallDisk {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async mount(directory: string): Promise<SmallDisk> {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const owner = `uid=${process.getuid?.() ?? 0},gid=${process.getgid?.() ?? 0}`;
    const options = `size=${sizeMiB}m,mode=0700,${owner}`;
    await runAsRoot('mount', '-t', 'tmpfs', '-o', options, 'xksd-chaos', directory);
    return new SmallDisk(directory);
  }

  /** Leaves no byte free. */
  fill(): void {
    const fd = openSync(join(this.directory, fillerName), 'a', 0o600);
    try {
      for (let bytes = 64 * 1024; bytes > 0; ) {
        try {
          writeSync(fd, Buffer.alloc(bytes, 0x78));
        } catch (failure) {
          if (!isErrno(failure, 'ENOSPC')) throw failure;
          bytes = Math.floor(bytes / 2);
        }
      }
    } finally {
      closeSync(fd);
    }
  }

  free(): void {
    rmSync(join(this.directory, fillerName), { force: true });
  }

  unmount(): Promise<void> {
    return unmount(this.directory);
  }
}
