import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCertificates } from '../../src/demo/certificates.js';
import type { LoadShape } from '../driver/load-run.js';
import { Measurement, type Traffic } from '../measurement.js';
import { buildSlowModule } from '../target/slow-module.js';
import type { RungResult } from './ladder-results.js';
import { makeLadderToken } from './ladder-token.js';
import { MeasuredProcess } from './measured-process.js';
import { ladderAccess, type RungName, type RungOrder, rungs } from './rungs.js';

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

type RungProcess = MeasuredProcess<RungOrder, { readonly port: number }>;

const program = join(dirname(fileURLToPath(import.meta.url)), '../ladder-process.js');

/** Measures each rung in a process of its own. Rejects when one of them ends meanwhile, with how. */
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
    const rung: RungProcess = new MeasuredProcess({
      what: `the rung ${name}`,
      program,
      environment: { ...environment, ...(isEmpty && empty.emptyEnvironment()) },
      logFile: join(directory, `${name}.log`),
    });
    try {
      const { port } = await rung.ask({
        rung: name,
        certificate: certificate ?? '',
        key: key ?? '',
        token: isEmpty ? { ...token, modulePath: empty.modulePath } : token,
      });
      results.push(await measureRung(options, name, rung, port, ca ?? ''));
    } finally {
      await rung.end();
    }
  }
  return results;
}

async function measureRung(
  { traffic, rate, seconds }: LadderOptions,
  name: RungName,
  rung: RungProcess,
  port: number,
  ca: string,
): Promise<RungResult> {
  const target = {
    name,
    urls: [`https://127.0.0.1:${port}`],
    ca,
    access: ladderAccess,
    pids: [rung.pid],
    adminSocket: null,
    stop: () => Promise.resolve(),
  };
  // Most rungs answer nothing that could be decrypted. A driver that can't reach a rung fails by itself.
  const measurement = await Measurement.open(target, traffic, { verify: false }).catch((failure: unknown) =>
    rung.during(Promise.reject(failure)),
  );
  const bothLoads = async (): Promise<RungResult> => {
    const openLoop: LoadShape = { kind: 'open', rate, seconds };
    const closedLoop: LoadShape = { kind: 'closed', seconds };
    await measurement.warmUp(closedLoop);
    const open = await measurement.run(`${name}, open loop`, openLoop);
    return { rung: name, open, closed: await measurement.run(`${name}, closed loop`, closedLoop) };
  };
  try {
    return await rung.during(bothLoads());
  } finally {
    await measurement.close();
  }
}
