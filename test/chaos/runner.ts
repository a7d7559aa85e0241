import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { errorText } from '../../src/base/guards.js';
import { SeededRandom } from '../support/seeded-random.js';
import { AdminHistory, type AdminReport } from './admin-history.js';
import type { ChaosCase } from './chaos-case.js';
import type { ChaosCluster } from './chaos-cluster.js';
import type { LoadReport } from './load.js';
import { Timeline } from './timeline.js';

export interface CaseResult {
  readonly name: string;
  /** Draws what breaks: runs it again. */
  readonly seed: number;
  readonly seconds: number;
  readonly notes: readonly string[];
  /** Empty: it has passed. */
  readonly problems: readonly string[];
  readonly admin: AdminReport | null;
  readonly load: LoadReport | null;
}

const operators = 2;
const adminPauseMsDefault = 150;
/** Requests that must be answered before anything breaks. */
const warmUpRequests = 100;
const unexplainedShown = 5;

/** Runs one case on a cluster at peace, heals it, and judges. Never rejects. */
export async function runCase(
  cluster: ChaosCluster,
  chaosCase: ChaosCase,
  options: {
    readonly seed: number;
    readonly seconds: number;
    readonly brief?: boolean;
    readonly timeline?: boolean;
  },
): Promise<CaseResult> {
  const startMs = performance.now();
  const notes: string[] = [];
  const problems: string[] = [];
  const random = new SeededRandom(options.seed);
  const { load } = cluster;
  let admin: AdminReport | null = null;
  load.reset();
  const timeline = options.timeline === true ? new Timeline(cluster) : null;
  try {
    await load.afterMore(warmUpRequests);
    const history = await AdminHistory.start(cluster, random, {
      operators,
      pauseMs: (options.brief === true ? undefined : chaosCase.adminPauseMs) ?? adminPauseMsDefault,
    });
    try {
      try {
        await chaosCase.run({
          cluster,
          history,
          random,
          brief: options.brief ?? false,
          deadlineMs: startMs + options.seconds * 1_000,
          event: (text) => timeline?.event(text),
          note: (text) => notes.push(text),
          check: (holds, otherwise) => void (holds || problems.push(otherwise)),
        });
      } finally {
        cluster.links.heal();
        for (const node of cluster.nodes) node.resume();
      }
      await history.changed();
    } finally {
      await history.stop();
    }
    notes.push(await cluster.converged());
    admin = await history.report(cluster.nodes);
    problems.push(...admin.problems);
    await load.afterMore(warmUpRequests);
  } catch (failure) {
    problems.push(errorText(failure));
  }
  if (timeline !== null) {
    const file = join(cluster.directory, `${chaosCase.name}.timeline`);
    writeFileSync(file, timeline.stop());
    notes.push(`time line: ${file}`);
  }
  const report = load.report();
  for (const failure of report.unexplained.slice(0, unexplainedShown)) {
    const { kind, key, sentMs, endedMs, detail } = failure;
    const when = `${new Date(sentMs).toISOString()} + ${endedMs - sentMs} ms`;
    problems.push(`unexplained: ${kind} ${key} ${when}: ${detail.slice(0, 200)}`);
  }
  if (report.unexplained.length > unexplainedShown)
    problems.push(`and ${report.unexplained.length - unexplainedShown} more unexplained failures`);
  const seconds = (performance.now() - startMs) / 1_000;
  return { name: chaosCase.name, seed: options.seed, seconds, notes, problems, admin, load: report };
}

/** A folder for one cluster, empty. */
export function clusterDirectory(root: string, name: string): string {
  const directory = join(root, name);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return directory;
}

/** One line of the summary, and below it what is to be said. */
export function resultText({ name, seconds, notes, problems, admin, load }: CaseResult): string {
  const explained = Object.entries(load?.explained ?? {});
  const failed = explained.reduce((sum, [, count]) => sum + count, 0) + (load?.unexplained.length ?? 0);
  const columns = [
    problems.length === 0 ? 'ok    ' : 'FAILED',
    name.padEnd(18),
    `${seconds.toFixed(0)} s`.padStart(6),
    `${load?.succeeded ?? 0} requests`.padStart(15),
    `${failed} failed`.padStart(12),
    `${load?.unexplained.length ?? 0} unexplained`.padStart(15),
    admin === null
      ? ''
      : `  admin: ${admin.made} made, ${admin.refused} refused, ${admin.repeated} repeated, ${admin.unknown} unknown, ${admin.nodeAnswers} asked`,
  ];
  const lines = [
    ...notes,
    ...(load === null ? [] : [loadText(load, seconds)]),
    ...explained.map(([why, count]) => `${count} failed: ${why}`),
    ...problems.map((problem) => `PROBLEM ${problem}`),
  ];
  return [columns.join(' '), ...lines.map((line) => `         ${line}`)].join('\n');
}

const loadText = ({ succeeded, slow, unsent }: LoadReport, seconds: number): string =>
  `${(succeeded / seconds).toFixed(0)} requests/s answered, ${slow} of them after more than 250 ms; ${unsent} not sent`;
