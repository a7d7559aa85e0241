import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCertificates } from '../../src/demo/certificates.js';
import { provideDemoToken } from '../../src/demo/demo-token.js';
import { makePartialKeys } from '../../src/demo/partial-keys.js';
import type { LoadShape } from '../driver/load-run.js';
import { Measurement, type Traffic } from '../measurement.js';
import { type RunReport, summarize } from '../report/bench-report.js';
import { figure, textTable } from '../report/text-table.js';
import { buildSlowModule } from '../target/slow-module.js';
import { type LadderToken, ladderAccess, type RungName, type RungOrder, rungs } from './rungs.js';

export interface LadderOptions {
  readonly root: string;
  /** Empty; the token, certificates and logs go there. */
  readonly directory: string;
  readonly traffic: Traffic;
  readonly rate: number;
  /** Of each load; every rung bears two, and a warm-up as long. */
  readonly seconds: number;
  /** Which rungs, in the ladder's order. */
  readonly names: readonly RungName[];
}

/** One rung: the open loop for its CPU, the closed loop for its ceiling. */
export interface RungResult {
  readonly rung: RungName;
  readonly open: RunReport;
  readonly closed: RunReport;
}

const program = join(dirname(fileURLToPath(import.meta.url)), '../ladder-process.js');

/** A throwaway token with a key, for everything that is measured without a node. */
export async function makeLadderToken(
  directory: string,
): Promise<{ readonly token: LadderToken; readonly environment: Readonly<Record<string, string>> }> {
  const provided = await provideDemoToken({ directory, module: null, initArgs: '', token: null });
  if (!provided.ok) throw new Error(provided.error);
  const { access, environment } = provided.value;
  // The module reads it when it is initialised, here for making the key.
  Object.assign(process.env, environment);
  const [objectId = ''] = makePartialKeys(access, [{ label: 'bench', encrypt: true, decrypt: true }]);
  const { modulePath, tokenLabel, pin } = access;
  return { token: { modulePath, label: tokenLabel, pin, objectId }, environment };
}

/** Measures each rung in a process of its own. */
export async function climb(options: LadderOptions): Promise<readonly RungResult[]> {
  const { root, directory } = options;
  const { token, environment } = await makeLadderToken(directory);
  const empty = await buildSlowModule(root, directory);
  const certificates = await makeCertificates({
    directory: join(directory, 'tls'),
    names: ['localhost'],
    ips: ['127.0.0.1'],
  });
  const [certificate, key, ca] = [certificates.certificate, certificates.key, certificates.caCertificate].map(
    (path) => readFileSync(path, 'utf8'),
  );
  const results: RungResult[] = [];
  for (const { name } of rungs) {
    if (!options.names.includes(name)) continue;
    const isEmpty = name === 'piscina';
    const order: RungOrder = {
      rung: name,
      certificate: certificate ?? '',
      key: key ?? '',
      token: isEmpty ? { ...token, modulePath: empty.modulePath } : token,
    };
    const own = { ...environment, ...(isEmpty && empty.emptyEnvironment()) };
    const child = startRung(own, join(directory, `${name}.log`));
    try {
      const port = await portOf(child, order);
      results.push(await measureRung(options, name, child.pid ?? 0, port, ca ?? ''));
    } finally {
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill();
      await ended;
    }
  }
  return results;
}

function startRung(environment: Readonly<Record<string, string>>, logFile: string): ChildProcess {
  const log = openSync(logFile, 'a', 0o600);
  const child = fork(program, {
    env: { ...process.env, ...environment },
    stdio: ['ignore', log, 'inherit', 'ipc'],
  });
  closeSync(log);
  return child;
}

function portOf(child: ChildProcess, order: RungOrder): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the rung ${order.rung} ended with ${code}`)));
    child.once('message', (message: { readonly port: number }) => resolve(message.port));
    child.send(order);
  });
}

async function measureRung(
  { traffic, rate, seconds }: LadderOptions,
  rung: RungName,
  pid: number,
  port: number,
  ca: string,
): Promise<RungResult> {
  const target = {
    name: rung,
    urls: [`https://127.0.0.1:${port}`],
    ca,
    access: ladderAccess,
    pids: [pid],
    adminSocket: null,
    stop: () => Promise.resolve(),
  };
  // Half of the rungs answer nothing that could be decrypted.
  const measurement = await Measurement.open(target, traffic, { verify: false });
  try {
    const openLoop: LoadShape = { kind: 'open', rate, seconds };
    const closedLoop: LoadShape = { kind: 'closed', seconds };
    await measurement.warmUp(closedLoop);
    const open = await measurement.run(rung, openLoop);
    return { rung, open, closed: await measurement.run(rung, closedLoop) };
  } finally {
    await measurement.close();
  }
}

/** What each rung adds to the CPU of a request, and the rate that it still reaches. */
export function ladderTable(results: readonly RungResult[], rate: number): string {
  const rows = results.map(({ rung, open, closed }, index) => {
    const [atRate, ceiling] = [summarize(open), summarize(closed)];
    const before = results[index - 1];
    const micros = ceiling.cpuMicrosPerRequest ?? 0;
    const added = micros - (before === undefined ? 0 : (summarize(before.closed).cpuMicrosPerRequest ?? 0));
    const what = rungs.find(({ name }) => name === rung)?.what ?? '';
    return [
      `${rung}: ${what}`,
      figure(micros, 0),
      figure(added, 0),
      figure(ceiling.answeredPerSecond, 0),
      figure(atRate.cpuMicrosPerRequest, 0),
      figure(atRate.p50Ms),
      figure(atRate.p99Ms),
      String(ceiling.failed + atRate.failed),
    ];
  });
  const head = ['rung', 'CPU µs', 'added', 'req/s', `CPU µs at ${rate}/s`, 'p50 ms', 'p99', 'failed'];
  return textTable([head, ...rows]);
}
