import { linearAxis, logAxis, percentileAxis } from './axis.js';
import { type BenchReport, kmsTimeoutMs, latencyOf, type RunReport, summarize } from './bench-report.js';
import { type ChartLine, escapeXml, svgChart } from './svg-chart.js';
import { figure } from './text-table.js';

const colours = 6;
const colourOf = (index: number): number => index % colours;

/** One page, readable without a network: all that it needs is in it. */
export function htmlPage(report: BenchReport): string {
  const passed = report.faults.length === 0;
  const settings = Object.entries(report.settings).map(([name, value]) => [name, String(value)] as const);
  const { machine } = report;
  const about = [
    ['started', report.startedAt.replace('T', ' ').replace(/\.\d+Z$/, ' UTC')],
    ['processor', `${machine.processor}, ${machine.cores} cores`],
    ['memory', `${machine.memoryMiB} MiB`],
    ['kernel', machine.kernel],
    ['Node', machine.node],
    ['commit', machine.commit ?? '–'],
    ['signing', `${figure(report.signingMicros, 0)} µs of the driver a request, ahead of the runs`],
  ] as const;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escapeXml(report.title)}</title>
<style>${style}</style>
</head>
<body>
<main>
<header>
<h1>${escapeXml(report.title)}</h1>
<p class="verdict ${passed ? 'pass' : 'fail'}">${passed ? 'Pass' : 'Fail'}</p>
</header>
${passed ? '' : `<ul class="faults">${report.faults.map((fault) => `<li>${escapeXml(fault)}</li>`).join('')}</ul>`}
${report.runs.length === 1 ? tiles(report.runs[0]) : ''}
${percentileChart(report.runs)}
${latencyOverTime(report.runs)}
${throughputOverTime(report.runs)}
<section><h2>Runs</h2>${runsTable(report.runs)}</section>
${processes(report.runs)}
${failures(report.runs)}
<section class="pair"><div><h2>Settings</h2>${pairs(settings)}</div><div><h2>Machine</h2>${pairs(about)}</div></section>
<footer>Latency counts from the moment a request was due, whether or not the driver could send it then (open loop: no
coordinated omission). Rest the pointer on a line for its figures.</footer>
</main>
</body>
</html>
`;
}

function tiles(run: RunReport | undefined): string {
  if (run === undefined) return '';
  const summary = summarize(run);
  const tile = (value: string, unit: string, what: string): string =>
    `<div class="tile"><b>${value}<small>${unit}</small></b><span>${what}</span></div>`;
  return `<section class="tiles">
${tile(figure(summary.answeredPerSecond, 0), '/s', 'answered')}
${tile(figure(summary.p50Ms), ' ms', 'median')}
${tile(figure(summary.p99Ms), ' ms', 'p99')}
${tile(figure(summary.p999Ms), ' ms', 'p99.9')}
${tile(figure(summary.cpuMicrosPerRequest, 0), ' µs', 'CPU a request')}
${tile(figure(summary.pssMiB, 0), ' MiB', 'memory')}
</section>`;
}

/** As many nines as the run with the most answers can show. */
function ninesOf(runs: readonly RunReport[]): number {
  const most = Math.max(10, ...runs.map(({ load }) => load.answered));
  return Math.min(6, Math.max(2, Math.floor(Math.log10(most))));
}

/** Twelve steps to each nine. */
const stepsPerNine = 12;

function percentileChart(runs: readonly RunReport[]): string {
  const nines = ninesOf(runs);
  const fractions = Array.from({ length: nines * stepsPerNine + 1 }, (_, i) => 1 - 10 ** (-i / stepsPerNine));
  const lines: ChartLine[] = runs.map((run, index) => {
    const latency = latencyOf(run.load);
    return {
      name: run.name,
      colour: colourOf(index),
      points:
        latency.count === 0
          ? []
          : fractions.map((x) => {
              const ms = Math.max(0.001, latency.percentile(x) / 1_000);
              return { x, y: ms, label: `${run.name}: ${percent(x)} within ${figure(ms)} ms` };
            }),
    };
  });
  const values = lines.flatMap(({ points }) => points.flatMap(({ y }) => y ?? []));
  const max = Math.max(1, ...values);
  return svgChart({
    title: 'Latency by percentile',
    x: percentileAxis(nines),
    y: logAxis(Math.min(1, ...values), max),
    xLabel: 'share of answers',
    yLabel: 'milliseconds',
    xTick: percent,
    yTick: plain,
    lines,
    thresholds: kmsThreshold(max),
  });
}

/** Only where it is near: a chart of milliseconds is not to be drawn for the sake of a line far above. */
const kmsThreshold = (maxMs: number) =>
  maxMs > kmsTimeoutMs / 3 ? [{ y: kmsTimeoutMs, label: `KMS gives up (${kmsTimeoutMs} ms)` }] : [];

const percent = (fraction: number): string => {
  const digits =
    fraction >= 0.99 ? Math.min(4, Math.max(0, Math.ceil(-Math.log10(1 - fraction) - 2 - 1e-9))) : 0;
  return fraction === 0 ? '0 %' : `${(fraction * 100).toFixed(digits)} %`;
};

const plain = (value: number): string => String(Number(value.toPrecision(6)));

function latencyOverTime(runs: readonly RunReport[]): string {
  const single = runs.length === 1;
  const series = single
    ? ([
        ['p50', 'p50Micros'],
        ['p99', 'p99Micros'],
        ['max', 'maxMicros'],
      ] as const)
    : ([['p99', 'p99Micros']] as const);
  const lines: ChartLine[] = runs.flatMap((run, index) =>
    series.map(([name, field], which) => ({
      name: single ? name : `${run.name}, ${name}`,
      colour: colourOf(single ? which : index),
      points: run.load.series.map((point) => {
        const micros = point[field];
        const ms = micros === null ? null : Math.max(0.001, micros / 1_000);
        return { x: point.atSeconds, y: ms, label: `${plain(point.atSeconds)} s, ${name}: ${figure(ms)} ms` };
      }),
    })),
  );
  const values = lines.flatMap(({ points }) => points.flatMap(({ y }) => y ?? []));
  const max = Math.max(1, ...values);
  return svgChart({
    title: 'Latency over time',
    x: linearAxis(lastSecond(runs)),
    y: logAxis(Math.min(1, ...values), max),
    xLabel: 'seconds',
    yLabel: 'milliseconds',
    xTick: plain,
    yTick: plain,
    lines,
    thresholds: kmsThreshold(max),
  });
}

function throughputOverTime(runs: readonly RunReport[]): string {
  const line = (run: RunReport, index: number, failed: boolean): ChartLine => ({
    name: runs.length === 1 ? (failed ? 'failed' : 'answered') : `${run.name}${failed ? ', failed' : ''}`,
    colour: failed ? colours - 1 : colourOf(index),
    dashed: failed,
    points: run.load.series.map((point) => {
      const y = failed ? point.failedPerSecond : point.answeredPerSecond;
      return { x: point.atSeconds, y, label: `${plain(point.atSeconds)} s: ${figure(y, 0)} a second` };
    }),
  });
  const lines = runs.flatMap((run, index) => [
    line(run, index, false),
    ...(run.load.series.some(({ failedPerSecond }) => failedPerSecond > 0) ? [line(run, index, true)] : []),
  ]);
  const values = lines.flatMap(({ points }) => points.flatMap(({ y }) => y ?? []));
  return svgChart({
    title: 'Throughput over time',
    x: linearAxis(lastSecond(runs)),
    y: linearAxis(Math.max(1, ...values)),
    xLabel: 'seconds',
    yLabel: 'answers a second',
    xTick: plain,
    yTick: plain,
    lines,
  });
}

const lastSecond = (runs: readonly RunReport[]): number =>
  Math.max(1, ...runs.map(({ load }) => load.series.at(-1)?.atSeconds ?? 0));

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((cell) => `<${tag}>${escapeXml(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="scroll"><table><thead>${cells('th', head)}</thead><tbody>${rows.map((row) => cells('td', row)).join('')}</tbody></table></div>`;
}

function runsTable(runs: readonly RunReport[]): string {
  const head = [
    'run',
    'answers/s',
    'p50 ms',
    'p90',
    'p99',
    'p99.9',
    'max',
    'failed',
    'dropped',
    'late',
    'verified',
  ];
  const costs = ['CPU µs/req', 'MiB', 'driver µs/req'];
  const rows = runs.map((run) => {
    const { load, verification } = run;
    const s = summarize(run);
    return [
      run.name,
      figure(s.answeredPerSecond, 0),
      ...[s.p50Ms, s.p90Ms, s.p99Ms, s.p999Ms, s.maxMs].map((ms) => figure(ms)),
      ...[s.failed, load.dropped, load.late].map(String),
      verification === null
        ? '–'
        : `${verification.verified} of ${verification.verified + verification.wrong}`,
      ...[s.cpuMicrosPerRequest, s.pssMiB, s.driverCpuMicrosPerRequest].map((value) => figure(value, 0)),
    ];
  });
  return table([...head, ...costs], rows);
}

function processes(runs: readonly RunReport[]): string {
  const rows = runs.flatMap((run) =>
    run.processes.map(({ role, pid, cpuMicros, pssKiB }) => [
      run.name,
      `${role} (${pid})`,
      figure(cpuMicros / Math.max(1, run.load.answered), 1),
      figure(cpuMicros / (run.load.elapsedMs * 10), 1),
      figure(pssKiB / 1_024, 1),
    ]),
  );
  if (rows.length === 0) return '';
  return `<section><h2>Processes</h2>${table(['run', 'process', 'CPU µs/req', '% of a core', 'PSS MiB'], rows)}</section>`;
}

function failures(runs: readonly RunReport[]): string {
  const rows = runs.flatMap((run) =>
    Object.entries(run.load.failures).map(([reason, count]) => [run.name, reason, String(count)]),
  );
  return rows.length === 0
    ? ''
    : `<section><h2>Failures</h2>${table(['run', 'what', 'times'], rows)}</section>`;
}

const pairs = (entries: readonly (readonly [string, string])[]): string =>
  `<dl>${entries.map(([name, value]) => `<dt>${escapeXml(name)}</dt><dd>${escapeXml(value)}</dd>`).join('')}</dl>`;

const style = `
:root{--page:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6776;--rule:#e3e7ec;--bad:#b42318;--good:#0b7a4b;
--c0:#2563eb;--c1:#d97706;--c2:#0d9488;--c3:#9333ea;--c4:#64748b;--c5:#dc2626}
@media (prefers-color-scheme:dark){:root{--page:#0f141a;--card:#171e27;--ink:#e6ebf1;--soft:#93a1b1;--rule:#2a3441;
--bad:#f97066;--good:#4ade80;--c0:#60a5fa;--c1:#fbbf24;--c2:#2dd4bf;--c3:#c084fc;--c4:#94a3b8;--c5:#f87171}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 20px 48px}
header{display:flex;gap:16px;align-items:center;justify-content:space-between}
h1{font-size:24px;line-height:1.25;margin:0}h2{font-size:16px;margin:0 0 12px}
.verdict{margin:0;padding:4px 14px;border-radius:999px;font-weight:600;border:1.5px solid currentColor}
.pass{color:var(--good)}.fail{color:var(--bad)}.faults{color:var(--bad);margin:16px 0 0;padding-left:20px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(122px,1fr));gap:12px;padding:0;background:none;border:0}
.tile,section,figure{background:var(--card);border:1px solid var(--rule);border-radius:10px;margin:20px 0 0;padding:16px 18px}
.tile{margin:0;padding:12px 14px}.tile b{display:block;font-size:23px;font-weight:650;font-variant-numeric:tabular-nums}
.tile small{font-size:13px;font-weight:500;color:var(--soft)}.tile span{color:var(--soft);font-size:13px}
figcaption{font-weight:650;font-size:16px}
svg{display:block;width:100%;height:auto;margin-top:8px}
svg text{fill:var(--soft);font-size:11.5px;font-variant-numeric:tabular-nums}
.grid{stroke:var(--rule);stroke-width:1}.threshold{stroke:var(--bad);stroke-width:1.2;stroke-dasharray:5 4}
svg .threshold-label{fill:var(--bad)}
.line path{fill:none;stroke:var(--colour);stroke-width:2;stroke-linejoin:round}
.line.dashed path{stroke-dasharray:5 4}
.line circle{fill:var(--colour);opacity:0}.line circle:hover{opacity:1}
.c0{--colour:var(--c0)}.c1{--colour:var(--c1)}.c2{--colour:var(--c2)}.c3{--colour:var(--c3)}.c4{--colour:var(--c4)}.c5{--colour:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:6px;font-size:13px;color:var(--soft)}
.legend i{display:inline-block;width:16px;height:0;border-top:3px solid var(--colour);margin-right:6px;vertical-align:middle}
.legend .dashed i{border-top-style:dashed}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:6px 8px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th{color:var(--soft);font-weight:600}th:first-child,td:first-child{text-align:left;padding-left:0}
tbody tr:last-child td{border-bottom:0}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:24px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0;font-size:13.5px}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:24px;color:var(--soft);font-size:13px}
@media print{body{background:#fff}.tile,section,figure{break-inside:avoid}}
`;
