import type { Axis } from './axis.js';

export interface ChartLine {
  readonly name: string;
  /** Number of the colour, from 0. */
  readonly colour: number;
  readonly dashed?: boolean;
  /** Where x, y and what is said when the pointer rests there. A `null` y interrupts the line. */
  readonly points: readonly { readonly x: number; readonly y: number | null; readonly label: string }[];
}

/** A horizontal line that something is measured against. */
export interface Threshold {
  readonly y: number;
  readonly label: string;
}

export interface Chart {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly xTick: (value: number) => string;
  readonly yTick: (value: number) => string;
  readonly lines: readonly ChartLine[];
  readonly thresholds?: readonly Threshold[];
}

const width = 760;
const height = 300;
const margin = { top: 16, right: 24, bottom: 44, left: 64 };
const plotWidth = width - margin.left - margin.right;
const plotHeight = height - margin.top - margin.bottom;
/** Points that can be pointed at; more would only make the file larger. */
const marksMax = 120;

export const escapeXml = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0) ?? 0};`);

const round = (value: number): string => String(Math.round(value * 10) / 10);

/** A chart as an `<svg>` element. Colours and type come from the page's style. */
export function svgChart(chart: Chart): string {
  const left = (value: number): number => margin.left + chart.x.at(value) * plotWidth;
  const top = (value: number): number => margin.top + (1 - chart.y.at(value)) * plotHeight;
  const text = (x: number, y: number, anchor: string, content: string, extra = ''): string =>
    `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}"${extra}>${escapeXml(content)}</text>`;
  const right = width - margin.right;
  const bottom = height - margin.bottom;
  const grid = [
    ...chart.y.ticks.map(
      (tick) =>
        `<line class="grid" x1="${margin.left}" x2="${right}" y1="${round(top(tick))}" y2="${round(top(tick))}"/>` +
        text(margin.left - 8, top(tick) + 4, 'end', chart.yTick(tick)),
    ),
    ...chart.x.ticks.map(
      (tick) =>
        `<line class="grid" y1="${margin.top}" y2="${bottom}" x1="${round(left(tick))}" x2="${round(left(tick))}"/>` +
        text(left(tick), bottom + 18, 'middle', chart.xTick(tick)),
    ),
  ];
  const thresholds = (chart.thresholds ?? []).map(
    ({ y, label }) =>
      `<line class="threshold" x1="${margin.left}" x2="${right}" y1="${round(top(y))}" y2="${round(top(y))}"/>` +
      text(right - 4, top(y) - 5, 'end', label, ' class="threshold-label"'),
  );
  const lines = chart.lines.map(({ points, colour, dashed }) => {
    const path = points
      .map(({ x, y }, index) => {
        if (y === null) return '';
        const draws = index > 0 && points[index - 1]?.y !== null;
        return `${draws ? 'L' : 'M'}${round(left(x))} ${round(top(y))}`;
      })
      .join('');
    const every = Math.ceil(points.length / marksMax);
    const marks = points
      .filter((_, index) => index % every === 0 || index === points.length - 1)
      .map(({ x, y, label }) =>
        y === null
          ? ''
          : `<circle cx="${round(left(x))}" cy="${round(top(y))}" r="5"><title>${escapeXml(label)}</title></circle>`,
      );
    return `<g class="line c${colour}${dashed ? ' dashed' : ''}"><path d="${path}"/>${marks.join('')}</g>`;
  });
  return `<figure><figcaption>${escapeXml(chart.title)}</figcaption>${legend(chart.lines)}
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escapeXml(chart.title)}">
${grid.join('\n')}
${thresholds.join('\n')}
${lines.join('\n')}
${text(margin.left + plotWidth / 2, height - 6, 'middle', chart.xLabel)}
${text(0, 0, 'middle', chart.yLabel, ` transform="translate(14 ${margin.top + plotHeight / 2}) rotate(-90)"`)}
</svg></figure>`;
}

function legend(lines: readonly ChartLine[]): string {
  const entries = lines.map(
    ({ name, colour, dashed }) =>
      `<span class="c${colour}${dashed ? ' dashed' : ''}"><i></i>${escapeXml(name)}</span>`,
  );
  return `<div class="legend">${entries.join('')}</div>`;
}
