import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { eventually, startNode } from '../support/running-node.js';

t.test('`hsm login` tries a wrong PIN once, however many processes a node has', async (t) => {
  const spyLog = join(t.testdir(), 'spy.log');
  const running = await startNode(t, { spyLog });
  const { node, pin, pinFile } = running;
  const logins = (): number =>
    existsSync(spyLog) ? [...readFileSync(spyLog, 'utf8').matchAll(/^\d+: C_Login$/gm)].length : 0;
  const before = await running.status();
  t.equal(before.serving.length, 2);
  const soFar = logins();

  writeFileSync(pinFile, 'hungry-for-more\n');
  for (const { pid } of before.serving) process.kill(pid, 'SIGKILL');
  const areRefused = async (): Promise<boolean> => {
    const { serving } = (await running.status()) as unknown as { serving: readonly object[] };
    return serving.filter((one) => JSON.stringify(one).includes('the PIN is wrong')).length === 2;
  };
  await eventually('both processes refused', areRefused, node.logFile);
  t.equal(logins(), soFar + 1, 'two restarts, one try');

  const refused = await running.xksctl('hsm', 'login');
  t.equal(refused.status, 1);
  t.match(refused.stderr, /serving-1: .*the PIN is wrong/);
  t.equal(logins(), soFar + 2, 'two processes, one try more');

  writeFileSync(pinFile, `${pin}\n`);
  const loggedIn = await running.xksctl('hsm', 'login');
  t.equal(loggedIn.status, 0, loggedIn.stderr);
  t.equal(logins(), soFar + 4, 'each process logs in');
});
