import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isJsonObject } from '../src/base/guards.js';
import type { LoadOptions } from './options.js';
import { kmsTimeoutMs } from './report/bench-report.js';
import { textTable } from './report/text-table.js';
import { runTool } from './tools/run-tool.js';
import { type SignedLoad, withSignedLoad } from './tools/signed-load.js';

/** Of the requests that were due: a tool that paces each connection by the second loses a few at its ends. */
const sentShareMin = 0.98;

/** `npm run bench -- autocannon`: the same load, the same verdict. @returns the exit status. */
export function autocannonCommand(root: string, options: LoadOptions): Promise<number> {
  const { rate, seconds, traffic } = options;
  if (traffic.http !== '1.1') throw new Error('autocannon speaks HTTP/1.1 only');
  return withSignedLoad(root, options, async (load) => {
    const harFile = join(load.directory, 'requests.har');
    const caFile = join(load.directory, 'ca.pem');
    writeFileSync(harFile, JSON.stringify(harOf(load)));
    if (load.ca !== null) writeFileSync(caFile, load.ca);
    const { status, output } = await runTool(
      join(root, 'node_modules/.bin/autocannon'),
      [
        ...['--json', '--no-progress', '--har', harFile],
        ...['--connections', String(traffic.connections), '--duration', String(seconds)],
        ...['--overallRate', String(rate), ...(load.ca === null ? [] : ['--ca', caFile]), load.url],
      ],
      { keepOutput: true },
    );
    if (status !== 0) throw new Error(`autocannon ended with ${status}`);
    const result = autocannonResult(JSON.parse(output));
    console.log(resultTable(result));
    const faults = autocannonFaults(result, rate * seconds);
    for (const fault of faults) console.log(`FAULT ${fault}`);
    console.log(faults.length === 0 ? 'PASS' : 'FAIL');
    return faults.length === 0 ? 0 : 1;
  });
}

/** HTTP Archive 1.2, as far as autocannon reads it. */
function harOf({ requests }: SignedLoad): object {
  return {
    log: {
      entries: requests.map(({ url, headers, body }) => ({
        request: {
          method: 'POST',
          url,
          headers: headers.map(([name, value]) => ({ name, value })),
          postData: { text: body },
        },
      })),
    },
  };
}

/** Milliseconds and counts out of autocannon's JSON. */
export interface AutocannonResult {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
  readonly answered: number;
  readonly non2xx: number;
  readonly errors: number;
  readonly perSecond: number;
}

export function autocannonResult(value: unknown): AutocannonResult {
  const section = (name: string): Readonly<Record<string, unknown>> => {
    const part = isJsonObject(value) ? value[name] : null;
    return isJsonObject(part) ? part : {};
  };
  const [latency, requests] = [section('latency'), section('requests')];
  const all = isJsonObject(value) ? value : {};
  const number = (from: Readonly<Record<string, unknown>>, name: string): number => Number(from[name]);
  return {
    p50: number(latency, 'p50'),
    p99: number(latency, 'p99'),
    p999: number(latency, 'p99_9'),
    max: number(latency, 'max'),
    answered: number(requests, 'total'),
    non2xx: number(all, 'non2xx'),
    errors: number(all, 'errors'),
    perSecond: number(requests, 'average'),
  };
}

/** Why a result is not as KMS needs it; empty when it is. */
export function autocannonFaults(result: AutocannonResult, due: number): readonly string[] {
  const faults: string[] = [];
  // Written so that what is not there is a fault.
  if (!(result.errors + result.non2xx === 0))
    faults.push(`${result.errors} errors and ${result.non2xx} answers other than 2xx`);
  if (!(result.answered >= due * sentShareMin))
    faults.push(`${result.answered} answers of ${due} that were due`);
  if (!(result.p99 < kmsTimeoutMs)) faults.push(`p99 is ${result.p99} ms, and not below ${kmsTimeoutMs} ms`);
  return faults;
}

const resultTable = (result: AutocannonResult): string =>
  textTable([
    ['', 'req/s', 'p50 ms', 'p99', 'p99.9', 'max', 'errors', 'non-2xx'],
    [
      'autocannon',
      ...[
        result.perSecond.toFixed(0),
        result.p50,
        result.p99,
        result.p999,
        result.max,
        result.errors,
        result.non2xx,
      ].map(String),
    ],
  ]);
