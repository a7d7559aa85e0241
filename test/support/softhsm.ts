import { execFile } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { makeSoftHsmToken as makeToken } from '../../src/demo/softhsm-token.js';

export interface SoftHsmTestToken {
  readonly modulePath: string;
  readonly label: string;
  readonly serial: string;
  readonly pin: string;
  readonly soPin: string;
  /** 0600. */
  readonly pinFile: string;
  readonly confPath: string;
  /** Removed after the test. */
  readonly directory: string;
  /** `pkcs11:token=…?module-path=…&pin-source=file:…`. */
  readonly uri: string;
  /** For child processes. */
  readonly env: { readonly SOFTHSM2_CONF: string };
  readonly initArgs: '';
}

/**
 * A SoftHSM2 token of this test's own, removed after it. Sets SOFTHSM2_CONF in this process: the module reads it at
 * C_Initialize, once per process, so a test file uses one token directory.
 */
export async function makeSoftHsmToken(
  t: Pick<Test, 'teardown'>,
  options: { readonly label?: string; readonly pin?: string } = {},
): Promise<SoftHsmTestToken> {
  const directory = await mkdtemp(join(tmpdir(), 'xksd-softhsm-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const label = options.label ?? 'xks-test';
  const pin = options.pin ?? '4711-user-pin';
  const soPin = '0815-so-pin';
  const token = await makeToken({ directory, label, pin, soPin });
  const pinFile = join(directory, 'pin');
  writeFileSync(pinFile, `${pin}\n`);
  chmodSync(pinFile, 0o600);
  process.env['SOFTHSM2_CONF'] = token.env.SOFTHSM2_CONF;
  return {
    modulePath: token.modulePath,
    label,
    serial: token.serial,
    pin,
    soPin,
    pinFile,
    confPath: token.env.SOFTHSM2_CONF,
    directory,
    uri: `pkcs11:token=${encodeURIComponent(label)}?module-path=${token.modulePath}&pin-source=file:${pinFile}`,
    env: token.env,
    initArgs: '',
  };
}

const run = promisify(execFile);

/**
 * Another token in the directory of `first`, with the same PINs. With `ownModule` it is reached through a copy of the
 * module, as if another vendor's: the two are initialised and finalised apart.
 */
export async function addSoftHsmToken(
  first: SoftHsmTestToken,
  label: string,
  { ownModule }: { readonly ownModule: boolean },
): Promise<SoftHsmTestToken> {
  const env = { ...process.env, ...first.env };
  const pins = ['--pin', first.pin, '--so-pin', first.soPin];
  await run('softhsm2-util', ['--init-token', '--free', '--label', label, ...pins], { env });
  const { stdout } = await run('softhsm2-util', ['--show-slots'], { env });
  const slot = stdout.split(/^Slot /m).find((text) => new RegExp(`Label: +${label} *$`, 'm').test(text));
  const serial = /Serial number: +(\S+)/.exec(slot ?? '')?.[1];
  if (serial === undefined) throw new Error(`no token ${label} in ${stdout}`);
  let { modulePath } = first;
  if (ownModule) {
    modulePath = join(first.directory, `${label}.so`);
    await copyFile(first.modulePath, modulePath);
  }
  return {
    ...first,
    label,
    serial,
    modulePath,
    uri: `pkcs11:token=${encodeURIComponent(label)}?module-path=${modulePath}&pin-source=file:${first.pinFile}`,
  };
}
