import { join } from 'node:path';
import type { LoadShape } from './driver/load-run.js';
import { Measurement, type Traffic } from './measurement.js';
import type { RunReport } from './report/bench-report.js';
import { ScaleCluster } from './scale-cluster.js';
import type { Findings } from './scale-findings.js';
import { judgeRequests } from './scale-request-costs.js';
import { residentMiB } from './scale-watch.js';
import type { BenchTarget } from './target/bench-target.js';

/** Of one load. */
const secondsEach = 8;
const warmUpSeconds = 5;

const traffic: Traffic = {
  http: '1.1',
  connections: 32,
  streams: 1,
  bodies: { plaintextBytes: 32, aadBytes: 200, cdiv: true },
  encryptShare: 0.5,
};

export interface RequestOptions {
  readonly keys: number;
  readonly keyStores: number;
  readonly rate: number;
  readonly turns: number;
}

interface Side {
  readonly what: string;
  readonly cluster: ScaleCluster;
  readonly measurement: Measurement;
  readonly closed: RunReport[];
  readonly open: RunReport[];
}

/**
 * What requests cost with much key state and with little: a node of each, in alternation, so that the machine's moods
 * fall on both.
 */
export async function measureRequests(
  directory: string,
  options: RequestOptions,
  findings: Findings,
): Promise<void> {
  const { keys, keyStores, rate, turns } = options;
  // With those that requests are for: there may be no more than the most.
  const fill = { keys: keys - 1, keyStores: keyStores - 1, tailEntries: 0 };
  const small = await ScaleCluster.found(join(directory, 'few'), null);
  try {
    const large = await ScaleCluster.found(join(directory, 'many'), fill);
    try {
      const few = await open(small, 'few keys', findings);
      const many = await open(large, `${keys} keys`, findings);
      for (let turn = 0; turn < turns; turn += 1) {
        for (const side of [few, many]) {
          const run = (loop: string, shape: LoadShape): Promise<RunReport> =>
            side.measurement.run(`${side.what}, turn ${turn + 1}, ${loop} loop`, shape);
          side.closed.push(await run('closed', { kind: 'closed', seconds: secondsEach }));
          side.open.push(await run('open', { kind: 'open', rate, seconds: secondsEach }));
        }
      }
      for (const side of [few, many]) await side.measurement.close();
      judgeRequests(few, many, findings);
      for (const kind of ['replica', 'serving'] as const) {
        const [less, more] = [residentMiB(small.first, kind), residentMiB(large.first, kind)];
        const perKey = `${(((more - less) * 1_024 ** 2) / keys).toFixed(0)} bytes a key`;
        findings.note(
          `memory of a ${kind} process`,
          `${less.toFixed(0)} and ${more.toFixed(0)} MiB, ${perKey}`,
        );
      }
    } finally {
      await large.stop();
    }
  } finally {
    await small.stop();
  }
}

async function open(cluster: ScaleCluster, what: string, findings: Findings): Promise<Side> {
  cluster.first.start();
  const startMs = await cluster.untilServes(cluster.first);
  findings.note(`from the start of a node to its first answer, ${what}`, `${(startMs / 1_000).toFixed(2)} s`);
  const measurement = await Measurement.open(targetOf(cluster, what), traffic);
  await measurement.warmUp({ kind: 'closed', seconds: warmUpSeconds });
  return { what, cluster, measurement, closed: [], open: [] };
}

function targetOf(cluster: ScaleCluster, name: string): BenchTarget {
  const { demo, pid } = cluster.first;
  return {
    name,
    urls: [demo.description.url],
    ca: cluster.ca,
    access: cluster.access,
    pids: [pid],
    adminSocket: null,
    stop: () => cluster.stop(),
  };
}
