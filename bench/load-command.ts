import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { amongWrites } from './among-writes.js';
import { Measurement } from './measurement.js';
import type { LoadOptions } from './options.js';
import { RateSearch } from './rate-search.js';
import {
  type BenchReport,
  faultsOf,
  kmsTimeoutMs,
  type RunReport,
  summarize,
  wrongAnswersOf,
} from './report/bench-report.js';
import { htmlPage } from './report/html-page.js';
import { thisMachine } from './report/machine.js';
import { profileTable } from './report/profile.js';
import { figure, reportText, runTable } from './report/text-table.js';
import type { BenchTarget } from './target/bench-target.js';
import { startOwnProxy } from './target/own-proxy.js';
import { makeWorkDirectory } from './work-directory.js';

/** What a search holds each rate for. */
const searchSeconds = 5;
/** A rate is bad when it was so twice: once may have been the machine. */
const searchTriesMax = 2;
/** Between two tries of a search: what one left behind must not fall on the next. */
const searchPauseMs = 500;
/** The two answers to "how much": what KMS bears, and what nobody notices. */
const searchLimitsMs = [kmsTimeoutMs, 25] as const;

/** `npm run bench`: measures a proxy and says whether it is as KMS needs it. @returns the exit status. */
export async function loadCommand(root: string, options: LoadOptions): Promise<number> {
  const out = resolve(options.outDirectory ?? join(root, 'var/bench'));
  const startedAt = new Date();
  const work = makeWorkDirectory(out);
  const profiles = options.target.kind === 'own' && options.target.profile ? join(out, 'profiles') : null;
  if (profiles !== null) emptyOfProfiles(profiles);
  const target = await openTarget(root, work, profiles, options);
  let measured: Measured;
  let signingMicros: number;
  try {
    const measurement = await Measurement.open(target, options.traffic);
    signingMicros = measurement.signingMicros;
    try {
      await measurement.warmUp(
        options.mode.kind === 'closed' || options.mode.kind === 'find-max'
          ? { kind: 'closed', seconds: options.warmUpSeconds }
          : { kind: 'open', rate: options.rate, seconds: options.warmUpSeconds },
      );
      measured = await measure(target, measurement, options);
    } finally {
      await measurement.close();
    }
  } finally {
    await target.stop();
  }
  const report: BenchReport = {
    format: 1,
    title: titleOf(target, options),
    startedAt: startedAt.toISOString(),
    machine: thisMachine(root),
    settings: settingsOf(options),
    signingMicros,
    ...measured,
  };
  writeFileSync(join(out, 'report.json'), `${JSON.stringify(report, null, 1)}\n`);
  writeFileSync(join(out, 'report.html'), htmlPage(report));
  console.log(reportText(report));
  if (profiles !== null) console.log(`\n${profileTable(profiles)}`);
  console.log(`${join(out, 'report.html')}\n${join(out, 'report.json')}`);
  return report.faults.length === 0 ? 0 : 1;
}

/** There, and without what earlier runs left; whatever else somebody keeps in it stays. */
function emptyOfProfiles(directory: string): void {
  mkdirSync(directory, { recursive: true });
  for (const name of readdirSync(directory)) if (name.endsWith('.cpuprofile')) rmSync(join(directory, name));
}

/** A proxy to be measured: ours, started for it, or one that is there. */
export function openTarget(
  root: string,
  work: string,
  profileDirectory: string | null,
  { target }: Pick<LoadOptions, 'target'>,
): Promise<BenchTarget> {
  if (target.kind === 'own') return startOwnProxy({ root, directory: work, profileDirectory, ...target });
  const { urls, ca, access, pids } = target;
  return Promise.resolve({
    name: urls[0] ?? '',
    urls,
    ca,
    access,
    pids,
    adminSocket: null,
    stop: () => Promise.resolve(),
  });
}

type Measured = Pick<BenchReport, 'runs' | 'faults'>;

async function measure(
  target: BenchTarget,
  measurement: Measurement,
  options: LoadOptions,
): Promise<Measured> {
  const { mode, rate, seconds } = options;
  switch (mode.kind) {
    case 'open':
      return judged([await measurement.run(target.name, { kind: 'open', rate, seconds })]);
    case 'closed':
      return judged([await measurement.run(target.name, { kind: 'closed', seconds })]);
    case 'find-max':
      return findMax(measurement);
    case 'writes': {
      const { perSecond } = mode;
      return judged(await amongWrites(target.adminSocket ?? '', measurement, { rate, seconds, perSecond }));
    }
  }
}

const judged = (runs: readonly RunReport[]): Measured => ({ runs, faults: runs.flatMap(faultsOf) });

/** Rates that failed are what it is for; an answer that is wrong at whatever rate is not, nor is a rate not found. */
async function findMax(measurement: Measurement): Promise<Measured> {
  const ceiling = await measurement.run('closed loop', { kind: 'closed', seconds: searchSeconds });
  console.log(runTable([ceiling]));
  const found: RunReport[] = [];
  const faults = [...wrongAnswersOf(ceiling)];
  for (const limitMs of searchLimitsMs) {
    const name = `p99 < ${limitMs} ms`;
    const search = new RateSearch(summarize(ceiling).answeredPerSecond);
    let best: RunReport | null = null;
    for (let rate = search.next(); rate !== null; rate = search.next()) {
      let good = false;
      for (let tries = 0; tries < searchTriesMax && !good; tries++) {
        const run = await measurement.run(name, { kind: 'open', rate, seconds: searchSeconds });
        const p99 = summarize(run).p99Ms;
        good = faultsOf(run).length === 0 && p99 < limitMs;
        if (good && rate >= (search.best ?? 0)) best = run;
        faults.push(...wrongAnswersOf(run));
        console.log(`${name}: ${figure(rate, 0)}/s ${good ? 'good' : 'bad'} (p99 ${figure(p99)} ms)`);
        await delay(searchPauseMs);
      }
      search.record(rate, good);
    }
    if (best !== null) found.push(best);
    if (search.doubt !== null) faults.push(`${name}: ${search.doubt}`);
  }
  return { runs: [ceiling, ...found], faults };
}

function titleOf(target: BenchTarget, { mode, rate, traffic }: LoadOptions): string {
  const how =
    mode.kind === 'closed'
      ? 'closed loop'
      : mode.kind === 'find-max'
        ? 'highest rates'
        : `${rate} requests/s`;
  return `${target.name}: ${how} over HTTP/${traffic.http}, ${traffic.connections} connections`;
}

export function settingsOf(options: LoadOptions): Readonly<Record<string, string | number>> {
  const { target, traffic, mode, rate, seconds, warmUpSeconds } = options;
  const encrypts = Math.round(traffic.encryptShare * 100);
  return {
    mode:
      mode.kind === 'writes' ? `open loop, every other sixth among ${mode.perSecond} writes/s` : mode.kind,
    ...((mode.kind === 'open' || mode.kind === 'writes') && { 'requests a second': rate }),
    seconds,
    'warm-up seconds': warmUpSeconds,
    http: traffic.http,
    connections: traffic.connections,
    ...(traffic.http === '2' && { 'streams each': traffic.streams }),
    mix: `${encrypts} % Encrypt${traffic.bodies.cdiv ? ' with integrity value' : ''}, ${100 - encrypts} % Decrypt`,
    'plaintext bytes': traffic.bodies.plaintextBytes,
    'AAD bytes': traffic.bodies.aadBytes,
    ...(target.kind === 'own'
      ? {
          nodes: target.nodes,
          'serving processes': target.servingProcesses,
          ...(target.sessions !== null && { 'sessions each': target.sessions }),
          'token delay ms': target.tokenDelayMs,
        }
      : { target: target.urls.join(' ') }),
  };
}
