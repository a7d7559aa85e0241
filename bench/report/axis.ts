/** One direction of a chart: where a value lies, and which ones are written beside it. */
export interface Axis {
  /** Position of a value, 0 to 1. Values beyond the ends lie on them. */
  at(value: number): number;
  readonly ticks: readonly number[];
}

const clamp = (value: number): number => Math.min(1, Math.max(0, value));

/** From 0 to a round number that is not below `max`, with four or five steps. */
export function linearAxis(max: number): Axis {
  const step = roundStep(Math.max(max, 1e-9) / 5);
  const top = Math.ceil(Math.max(max, 1e-9) / step - 1e-9) * step;
  const count = Math.round(top / step);
  return {
    at: (value) => clamp(value / top),
    ticks: Array.from({ length: count + 1 }, (_, index) => index * step),
  };
}

/** 1, 2 or 5 times a power of ten, not below `least`. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  for (const factor of [1, 2, 5]) if (factor * power >= least * (1 - 1e-9)) return factor * power;
  return 10 * power;
}

/** Logarithmic between 1, 2 or 5 times powers of ten that hold all of `min` to `max`, both above 0. */
export function logAxis(min: number, max: number): Axis {
  const marks: number[] = [];
  for (let power = Math.floor(Math.log10(min)) - 1; power <= Math.ceil(Math.log10(max)) + 1; power++)
    for (const factor of [1, 2, 5]) marks.push(factor * 10 ** power);
  const first = Math.max(
    0,
    marks.findLastIndex((mark) => mark <= min * (1 + 1e-9)),
  );
  const last = Math.max(
    first + 1,
    marks.findIndex((mark) => mark >= max * (1 - 1e-9)),
  );
  const ticks = marks.slice(first, last + 1);
  const [low = 1, high = 10] = [ticks[0], ticks.at(-1)];
  const span = Math.log(high / low);
  return { at: (value) => clamp(Math.log(Math.max(value, low) / low) / span), ticks };
}

/** Fractions as HdrHistogram draws them: each further nine takes as much room as the one before, `nines` in all. */
export function percentileAxis(nines: number): Axis {
  const all = [0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
  return {
    at: (fraction) => clamp(-Math.log10(Math.max(1 - fraction, 10 ** -nines)) / nines),
    ticks: all.slice(0, nines + 2),
  };
}
