import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { libraryDirectory } from '../../src/demo/debian-packages.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

const run = promisify(execFile);
const program = fileURLToPath(new URL('./token-process.js', import.meta.url));

t.test('a wrong PIN reaches the token once: by no other process, after no restart', async (t) => {
  const token = await makeSoftHsmToken(t, { label: 'once' });
  const dataDir = t.testdir();
  // OpenSC's spy is a PKCS#11 module that logs every call and passes it on.
  const spy = `${libraryDirectory}/pkcs11-spy.so`;
  const spyLog = join(token.directory, 'spy.log');
  const start = async (): Promise<{ readonly state: string; readonly reason: string | null }> => {
    const uri = token.uri.replace(token.modulePath, spy);
    const { stdout, stderr } = await run(process.execPath, [program, uri, dataDir], {
      env: { ...process.env, ...token.env, PKCS11SPY: token.modulePath, PKCS11SPY_OUTPUT: spyLog },
    });
    t.equal(stderr, '');
    t.notMatch(stdout, /hungry|4711/);
    return JSON.parse(stdout);
  };
  const logins = (): number =>
    existsSync(spyLog) ? [...readFileSync(spyLog, 'utf8').matchAll(/^\d+: C_Login$/gm)].length : 0;

  writeFileSync(token.pinFile, 'hungry-for-more\n');
  const together = await Promise.all([start(), start()]);
  for (const { state, reason } of together) {
    t.equal(state, 'UNAVAILABLE');
    t.match(reason, /the PIN is wrong \(C_Login: CKR_PIN_INCORRECT\).*xksctl hsm login/);
  }
  t.equal(together.filter(({ reason }) => reason?.includes('not tried again')).length, 1);
  t.equal(logins(), 1, 'two processes, one login');

  t.match(await start(), { state: 'UNAVAILABLE', reason: /refused at .* not tried again/ });
  t.equal(logins(), 1, 'nor after a restart');

  writeFileSync(token.pinFile, `${token.pin}\n`);
  t.match(await start(), { state: 'DEGRADED', reason: /xksctl hsm prepare/ });
  t.equal(logins(), 2, 'another PIN is tried');
});
