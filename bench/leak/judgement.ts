import { figure } from '../report/text-table.js';
import { growth, type Point, settled, slopePerSecond } from './growth.js';

/** More memory by the slope, over the time that is judged, is a leak: the larger of the two. */
const growthShareMax = 0.05;
const growthMiBMax = 5;
/** Descriptors and threads that may come and go: a log being turned over, a connection to the replica. */
const openMoreMax = 4;

/** What one process held, each time it was looked at. */
export interface Watched {
  readonly role: string;
  readonly memoryMiB: Point[];
  readonly descriptors: Point[];
  readonly threads: Point[];
}

export interface Judgement {
  /** For people: a line for each process, under one of headings. */
  readonly rows: readonly (readonly string[])[];
  /** Empty: nothing grew, and all were there to the end. */
  readonly faults: readonly string[];
}

const headings = [
  'process',
  'pid',
  'PSS MiB',
  'at the end',
  'MiB/h',
  'descriptors',
  'at the end',
  'threads',
  'at the end',
];

/**
 * Whether anything grew. What was not seen is no proof of anything: a process that cannot be looked at is a fault, too.
 *
 * @param roots process ids of the proxy, all of which must be there; `watched` has what came of them besides.
 * @param endSeconds when all were looked at last.
 */
export function judge(
  watched: ReadonlyMap<number, Watched>,
  roots: readonly number[],
  endSeconds: number,
): Judgement {
  const faults: string[] = [];
  if (roots.length === 0) faults.push('no process was watched: name those of the proxy with --pid');
  for (const pid of roots)
    if (!watched.has(pid)) faults.push(`process ${pid} is not there, or not to be looked at by this user`);
  const rows = [...watched].map(([pid, one]) => {
    faults.push(...faultsOf(`${one.role} ${pid}`, one, endSeconds));
    return row(pid, one);
  });
  return { rows: [headings, ...rows], faults };
}

function faultsOf(
  name: string,
  { memoryMiB, descriptors, threads }: Watched,
  endSeconds: number,
): readonly string[] {
  const faults: string[] = [];
  const seenAt = memoryMiB.at(-1)?.atSeconds ?? 0;
  if (seenAt < endSeconds) faults.push(`${name} ended within ${figure(endSeconds - seenAt, 0)} s of the end`);
  const [, memoryAtEnd] = ends(memoryMiB);
  if (!memoryMiB.every(({ value }) => value > 0)) faults.push(`${name}: its memory cannot be read`);
  const more = growth(memoryMiB);
  if (more > Math.max(growthMiBMax, memoryAtEnd * growthShareMax))
    faults.push(`${name}: memory grew by ${figure(more, 1)} MiB after it had settled`);
  for (const [what, points] of [
    ['descriptors', descriptors],
    ['threads', threads],
  ] as const) {
    // Sessions, and a thread each, come when the token is slow for the first time; idle ones go after minutes.
    const [first, last] = ends(settled(points));
    if (last - first > openMoreMax) faults.push(`${name}: ${what} went from ${first} to ${last}`);
  }
  return faults;
}

function row(pid: number, { role, memoryMiB, descriptors, threads }: Watched): readonly string[] {
  const [from, to] = ends(memoryMiB);
  return [
    role,
    String(pid),
    figure(from, 1),
    figure(to, 1),
    figure(slopePerSecond(settled(memoryMiB)) * 3_600, 1),
    ...ends(descriptors).map(String),
    ...ends(threads).map(String),
  ];
}

const ends = (points: readonly Point[]): readonly [number, number] => [
  points[0]?.value ?? 0,
  points.at(-1)?.value ?? 0,
];
