import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { libraryDirectory } from '../../src/demo/debian-packages.js';

const run = promisify(execFile);

const modulePath = `${libraryDirectory}/libsoftokn3.so`;

export interface NssTestToken {
  readonly modulePath: string;
  /** CK_C_INITIALIZE_ARGS.LibraryParameters: the database and the label of its token. */
  readonly initArgs: string;
  readonly label: string;
  /** The same for every NSS database. */
  readonly serial: string;
  readonly pin: string;
  /** 0600. */
  readonly pinFile: string;
  /** Removed after the test. */
  readonly directory: string;
  readonly uri: string;
}

/** An NSS softoken database of this test's own, removed after it: a second vendor with other behaviour. */
export async function makeNssToken(
  t: Pick<Test, 'teardown'>,
  options: { readonly label?: string; readonly pin?: string } = {},
): Promise<NssTestToken> {
  if (!existsSync(modulePath)) throw new Error('NSS softoken is not installed; apt-get install libnss3');
  const directory = await mkdtemp(join(tmpdir(), 'xksd-nss-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const label = options.label ?? 'xks-nss';
  const pin = options.pin ?? 'nss-user-pin';
  const pinFile = join(directory, 'pin');
  await writeFile(pinFile, `${pin}\n`, { mode: 0o600 });
  await run('certutil', ['-N', '-d', `sql:${directory}`, '-f', pinFile]);
  return {
    modulePath,
    initArgs: `configdir='sql:${directory}' certPrefix='' keyPrefix='' secmod='secmod.db' flags= dbTokenDescription='${label}'`,
    label,
    serial: '0000000000000000',
    pin,
    pinFile,
    directory,
    uri: `pkcs11:token=${encodeURIComponent(label)}?module-path=${modulePath}&pin-source=file:${pinFile}`,
  };
}
