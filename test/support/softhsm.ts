import { chmodSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
