import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Where distributions put SoftHSM2's module; the first that exists is used. */
const modulePaths = [
  '/usr/lib/softhsm/libsofthsm2.so',
  '/usr/lib64/softhsm/libsofthsm2.so',
  '/usr/lib64/pkcs11/libsofthsm2.so',
  '/usr/lib/pkcs11/libsofthsm2.so',
  '/usr/local/lib/softhsm/libsofthsm2.so',
] as const;

const utilTimeoutMs = 20_000;

/** A throwaway SoftHSM2 token. */
export interface SoftHsmToken {
  /** To be in the environment before the module is initialised (C_Initialize reads it). */
  readonly env: { readonly SOFTHSM2_CONF: string };
  /** Absolute path of the PKCS#11 module. */
  readonly modulePath: string;
  readonly label: string;
  /** CK_TOKEN_INFO.serialNumber. */
  readonly serial: string;
}

/** SoftHSM2's module on this machine, `null` when the package is not installed. */
export function findSoftHsmModule(): string | null {
  return modulePaths.find((path) => existsSync(path)) ?? null;
}

/**
 * Makes a SoftHSM2 configuration and an initialised token below `directory`, which is created if need be. A token
 * directory that exists already is refused, never touched: it is somebody's.
 *
 * The PINs are `softhsm2-util` arguments (it takes them from a terminal otherwise), so other users of the machine
 * may see them for a moment: for throwaway tokens only.
 */
export async function makeSoftHsmToken(options: {
  readonly directory: string;
  readonly label: string;
  readonly pin: string;
  readonly soPin: string;
}): Promise<SoftHsmToken> {
  const modulePath = findSoftHsmModule();
  if (modulePath === null) {
    throw new Error(
      `SoftHSM2 is not installed (looked for ${modulePaths.join(', ')}); apt-get install softhsm2`,
    );
  }
  const directory = resolve(options.directory);
  const tokenDirectory = join(directory, 'tokens');
  await mkdir(directory, { recursive: true, mode: 0o700 });
  try {
    await mkdir(tokenDirectory, { mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new Error(
      `${tokenDirectory} exists already and is left as it is; remove it or choose another directory`,
    );
  }
  const env = { SOFTHSM2_CONF: join(directory, 'softhsm2.conf') };
  await writeFile(
    env.SOFTHSM2_CONF,
    [
      `directories.tokendir = ${tokenDirectory}`,
      'objectstore.backend = file',
      'log.level = ERROR',
      'slots.removable = false',
      '',
    ].join('\n'),
    { mode: 0o600 },
  );
  await softHsmUtil(env, [
    '--init-token',
    '--free',
    '--label',
    options.label,
    '--pin',
    options.pin,
    '--so-pin',
    options.soPin,
  ]);
  const serial = serialOf(await softHsmUtil(env, ['--show-slots']), options.label);
  return { env, modulePath, label: options.label, serial };
}

async function softHsmUtil(env: SoftHsmToken['env'], args: readonly string[]): Promise<string> {
  try {
    const { stdout } = await run('softhsm2-util', args, {
      env: { ...process.env, ...env },
      timeout: utilTimeoutMs,
    });
    return stdout;
  } catch (error) {
    // Not the error itself: its message repeats the command line, PINs included.
    const { code, stderr } = error as { readonly code?: unknown; readonly stderr?: unknown };
    const why = typeof stderr === 'string' && stderr.trim() !== '' ? stderr.trim() : `${String(code)}`;
    throw new Error(`softhsm2-util ${String(args[0])} failed: ${why}`);
  }
}

function serialOf(showSlots: string, label: string): string {
  for (const slot of showSlots.split(/^Slot /m)) {
    const field = (name: string) => new RegExp(`^\\s*${name}:[ \\t]*(.*?)[ \\t]*$`, 'm').exec(slot)?.[1];
    const serial = field('Serial number');
    if (field('Label') === label && field('Initialized') === 'yes' && serial !== undefined) return serial;
  }
  throw new Error(`softhsm2-util --show-slots does not list the token ${label} that it has just made`);
}
