import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { findSoftHsmModule } from '../../src/demo/softhsm-token.js';

const run = promisify(execFile);

/** A PKCS#11 module in front of SoftHSM2's (bench/target/slow-module.c). */
export interface SlowModule {
  readonly modulePath: string;
  /** Environment of the processes that load it. `delayMicros`: what each call of the data path takes on top. */
  environment(delayMicros: number): Readonly<Record<string, string>>;
  /** The same for a token that encrypts nothing: it copies, so that what remains is the way there and back. */
  emptyEnvironment(): Readonly<Record<string, string>>;
}

export async function buildSlowModule(root: string, directory: string): Promise<SlowModule> {
  const real = findSoftHsmModule();
  if (real === null) throw new Error('SoftHSM2 is not installed');
  const modulePath = join(directory, 'slow-module.so');
  const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-O2', '-shared', '-fPIC'];
  await run('cc', [...flags, join(root, 'bench/target/slow-module.c'), '-o', modulePath, '-ldl']);
  return {
    modulePath,
    environment: (delayMicros) => ({
      XKSD_BENCH_MODULE: real,
      XKSD_BENCH_DELAY_MICROS: String(delayMicros),
    }),
    emptyEnvironment: () => ({ XKSD_BENCH_MODULE: real, XKSD_BENCH_EMPTY: '1' }),
  };
}
