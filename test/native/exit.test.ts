import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { makeFaultShim } from '../support/fault-shim.js';
import { makeNssToken } from '../support/nss.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

/** A process that has not ended by then hangs. */
const exitMsMax = 120_000;

const child = join(dirname(fileURLToPath(import.meta.url)), 'exit-child.js');
const softHsm = await makeSoftHsmToken(t);
const shim = await makeFaultShim(t, softHsm.modulePath);
const viaShim = { ...softHsm, modulePath: shim.modulePath };

async function endOf(stage: string, sessions: number, token: object) {
  const process = spawn(
    globalThis.process.execPath,
    [child, stage, String(sessions), JSON.stringify(token)],
    {
      stdio: ['ignore', 'inherit', 'pipe'],
      timeout: exitMsMax,
      killSignal: 'SIGKILL',
    },
  );
  let stderr = '';
  process.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  const [code, signal] = (await once(process, 'close')) as [number | null, string | null];
  return { code, signal, stderr };
}

const quietly = (code: number) => ({ code, signal: null, stderr: '' });

for (const sessions of [1, 4]) {
  for (const [stage, code] of [
    ['loaded', 0],
    ['idle', 0],
    ['closed', 0],
    ['exit-while-running', 7],
    ['close-while-running', 0],
    ['workers-terminated', 0],
  ] as const) {
    t.test(`${sessions} session(s), ${stage}: the process ends by itself`, async (t) => {
      t.strictSame(await endOf(stage, sessions, softHsm), quietly(code));
    });
  }

  t.test(
    `${sessions} session(s), an error thrown while running ends the process with that error`,
    async (t) => {
      const end = await endOf('throw-while-running', sessions, softHsm);
      t.match(end, { code: 1, signal: null, stderr: /thrown on purpose/ });
    },
  );

  for (const [stage, code] of [
    ['exit-while-hung', 7],
    ['end-while-hung', 0],
  ] as const) {
    t.test(`${sessions} session(s), ${stage}: a call that never returns holds nobody up`, async (t) => {
      shim.setFaults('C_Encrypt hang - 1');
      const hung = shim.nextHang();
      t.strictSame(await endOf(stage, sessions, viaShim), quietly(code));
      (await hung).release();
    });
  }
}

t.test('NSS softoken: closing and exiting while running', async (t) => {
  const nss = await makeNssToken(t);
  t.strictSame(await endOf('close-while-running', 4, nss), quietly(0));
  t.strictSame(await endOf('exit-while-running', 4, nss), quietly(7));
  t.strictSame(await endOf('exit-while-running', 1, nss), quietly(7));
});
