import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { renameSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Test } from 'tap';

const run = promisify(execFile);
const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** A call inside the module that waits to be released. */
export interface HungCall {
  readonly functionName: string;
  release(): void;
}

/** A PKCS#11 module in front of a real one, built for this test, that misbehaves as told (test/native/fault-shim.c). */
export interface FaultShim {
  readonly modulePath: string;
  /** Rules as test/native/fault-rules.h has them; none of those before holds any longer. */
  setFaults(...rules: readonly string[]): void;
  /** The next call that hangs: resolves when it does, with what lets it go on. */
  nextHang(): Promise<HungCall>;
  /** Lets every call go on that hangs, also one that is still on its way here, until there are other rules. */
  releaseAll(): void;
}

export async function makeFaultShim(
  t: Pick<Test, 'teardown'>,
  modulePath: string,
  /** `withoutDeepBind`: the sanitizers' run times refuse RTLD_DEEPBIND. */
  options: { readonly withoutDeepBind?: boolean } = {},
): Promise<FaultShim> {
  const directory = await mkdtemp(join(tmpdir(), 'xksd-shim-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  const shim = join(directory, 'shim.so');
  const sources = ['fault-shim.c', 'fault-rules.c', 'iv-modes.c'].map((name) =>
    join(root, 'test/native', name),
  );
  const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-O1', '-g', '-shared', '-fPIC'];
  if (options.withoutDeepBind === true) flags.push('-DSHIM_WITHOUT_DEEPBIND');
  await run('cc', [...flags, ...sources, '-o', shim]);
  writeFileSync(`${shim}.module`, modulePath);

  const sockets = new Set<Socket>();
  const hung: HungCall[] = [];
  const waiting: ((call: HungCall) => void)[] = [];
  let isReleasing = false;
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => {});
    socket.once('data', (name: Buffer) => {
      if (isReleasing) {
        socket.end();
        return;
      }
      const call: HungCall = { functionName: name.toString(), release: () => socket.end() };
      const next = waiting.shift();
      if (next === undefined) hung.push(call);
      else next(call);
    });
  });
  server.listen(`${shim}.socket`);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });

  return {
    modulePath: shim,
    setFaults(...rules) {
      isReleasing = false;
      // By renaming: a call never reads half a rule. The number makes equal rules count anew.
      writeFileSync(`${shim}.faults.new`, `${rules.join('\n')}\n# ${process.hrtime.bigint()}\n`);
      renameSync(`${shim}.faults.new`, `${shim}.faults`);
    },
    nextHang: () =>
      new Promise((resolve) => {
        const call = hung.shift();
        if (call === undefined) waiting.push(resolve);
        else resolve(call);
      }),
    releaseAll() {
      isReleasing = true;
      hung.length = 0;
      for (const socket of sockets) socket.end();
    },
  };
}
