import { figure, textTable } from '../../bench/report/text-table.js';
import type { StretchReport } from './load-protocol.js';
import type { CaseResult } from './runner.js';
import { servedRate, type Verdict, verdictOf } from './verdict.js';

const header = [
  'fault',
  'requests',
  'failed',
  'late',
  'wrong',
  'p99 ms',
  'served p99',
  'refused p99',
  'recovery s',
  'verdict',
];

export const verdictText: Readonly<Record<Verdict, string>> = {
  ok: 'ok',
  failed: 'FAILED',
  'not-judged': 'not judged',
};

function row({ faultCase, outcome, problems }: CaseResult): readonly string[] {
  const verdict = verdictText[verdictOf(problems, outcome)];
  if (outcome === null) return [faultCase.fault, '–', '–', '–', '–', '–', '–', '–', '–', verdict];
  const { during, after, recoveryMs } = outcome;
  return [
    faultCase.fault,
    String(during.requests),
    String(during.failed),
    String(during.late),
    String(during.wrong + after.wrong),
    figure(during.p99Ms, 1),
    figure(during.servedP99Ms, 1),
    figure(during.refusedP99Ms, 1),
    recoveryMs === null ? 'none' : figure(recoveryMs / 1_000, 1),
    verdict,
  ];
}

export const resultTable = (results: readonly CaseResult[]): string =>
  textTable([header, ...results.map(row)]);

/** What is to be said of one case besides its row. */
export function resultNotes({ faultCase, outcome, problems }: CaseResult): readonly string[] {
  const said = Object.entries({ ...outcome?.after.said, ...outcome?.during.said });
  const sentLate = outcome?.during.sentLate ?? 0;
  return [
    ...said.map(([what, count]) => `${count} × ${what}`),
    ...(outcome?.capacity === undefined ? [] : [capacityNote(outcome.during, outcome.capacity)]),
    ...(sentLate > 0 ? [`${sentLate} requests were sent late: the load had not enough of a core`] : []),
    ...problems.map((problem) => `PROBLEM ${problem}`),
  ].map((line) => `  ${faultCase.name}: ${line}`);
}

const capacityNote = (during: StretchReport, capacity: number): string =>
  `${servedRate(during).toFixed(0)}/s served of the ${capacity.toFixed(0)}/s that the tokens could do: ` +
  `${((100 * servedRate(during)) / capacity).toFixed(1)}%`;
