import { readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import t from 'tap';
import { callers, startLoad } from '../support/load.js';
import { allReady, childrenOf, eventually, isAlive, metadata, startNode } from '../support/running-node.js';

/** Three kinds of process, of which each may die alone (docs/developing.md); under load, new connections included. */

t.test('a killed serving process costs only its requests in flight, and is replaced', async (t) => {
  const running = await startNode(t);
  const load = startLoad(running);
  await load.afterMore(200);
  const before = await running.status();
  const [victim] = before.serving;
  process.kill(victim?.pid ?? 0, 'SIGKILL');
  const killedMs = Date.now();
  await eventually('a replacement', async () => {
    const now = await running.status();
    return allReady(now) && now.serving.every(({ pid }) => pid !== victim?.pid);
  });
  t.comment(`replaced and ready after ${Date.now() - killedMs} ms, the question included`);
  await load.afterMore(200);
  await load.stop();
  t.ok(load.failures.length <= callers.kept + callers.fresh, 'at most what each caller had under way');
  t.strictSame(
    load.failures.filter((failure) => / answered \d/.test(failure)),
    [],
    'a connection may break; no answer is an error',
  );
});

t.test('a replica that is stopped, and then killed, costs no request at all', async (t) => {
  const running = await startNode(t);
  const load = startLoad(running);
  await load.afterMore(100);
  const { replica } = await running.status();
  process.kill(replica.pid, 'SIGSTOP');
  await load.afterMore(600);
  // After half a minute the supervisor has done so itself.
  if (isAlive(replica.pid)) process.kill(replica.pid, 'SIGKILL');
  await load.afterMore(600);
  await eventually('a new replica', async () => {
    const { status, stdout } = await running.xksctl('-o', 'json', 'status');
    return (status === 0 || status === 3) && JSON.parse(stdout).replica.pid !== replica.pid;
  });
  await load.stop();
  t.strictSame(load.failures, []);

  // The new replica goes on where the old one was: what it commits reaches the processes that never stopped serving.
  await running.xksctlJson('key', 'disable', 'test', 'key-1');
  const isDisabled = (): Promise<boolean> =>
    running.client
      .call('/keys/key-1/encrypt', {
        requestMetadata: metadata,
        plaintext: '',
        encryptionAlgorithm: 'AES_GCM',
      })
      .then(
        () => false,
        (failure: unknown) => /400.*InvalidStateException/.test(String(failure)),
      );
  await eventually('the key is disabled everywhere', isDisabled, running.node.logFile);
});

t.test('a standby that has loaded everything takes the place of a replica that dies', async (t) => {
  const running = await startNode(t);
  const { pid } = running.node.description;
  const command = (of: number): string => readFileSync(`/proc/${of}/cmdline`, 'utf8').replace(/\0+$/, '');
  let standby = 0;
  let successor = -1;
  // One that has been silent for three seconds is not taken: it has the least of a busy machine's time.
  for (let turn = 0; turn < 5 && successor !== standby; turn += 1) {
    await eventually('a standby', () => {
      standby = childrenOf(pid).find((child) => command(child).endsWith('\0standby')) ?? 0;
      return readFileSync(running.node.logFile, 'utf8').includes(`"standbyPid":${standby},`);
    });
    const { replica } = await running.status();
    t.not(replica.pid, standby);
    process.kill(replica.pid, 'SIGKILL');
    await eventually('a new replica', async () => {
      const { status, stdout } = await running.xksctl('-o', 'json', 'status');
      successor = status === 0 || status === 3 ? JSON.parse(stdout).replica.pid : replica.pid;
      return successor !== replica.pid;
    });
  }
  t.equal(successor, standby);
  t.match(command(standby), / replica$/, 'people see what it is now');
  t.equal(getPriority(standby), getPriority(pid), 'it has its priority back');
  await running.xksctlJson('key', 'disable', 'test', 'key-1');
  process.kill(pid, 'SIGKILL');
  await eventually('no child is left', () => !isAlive(standby));
});

t.test('children end with the supervisor, however it ends', async (t) => {
  const running = await startNode(t);
  const { pid } = running.node.description;
  const children = childrenOf(pid);
  t.ok(children.length >= 3, 'a replica and two serving processes, and in time a standby');
  process.kill(pid, 'SIGKILL');
  await eventually('no child is left', () => !children.some(isAlive));
});
