/** Wall clock at the beginning of a simulation, ms. */
const wallStartMs = 1_790_000_000_000;

/** True time as wall clocks show it, whole ms. */
export const wallMs = (trueMs: number): number => wallStartMs + Math.floor(trueMs);

const numberPlace = '000000000000-00000000'.length;

/** As `mintRequestId` makes them, with the number of the request where chance would be. */
export const requestIdOf = (request: number, trueMs: number): string =>
  `${wallMs(trueMs).toString(16).padStart(12, '0')}-${request.toString(16).padStart(20, '0')}`;

/** The request's number. */
export const requestOf = (requestId: string): number => Number.parseInt(requestId.slice(numberPlace), 16);

const base32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** An access key id, a different one for each number. */
export function accessKeyIdOf(count: number): string {
  let digits = '';
  for (let rest = count; digits.length < 20; rest = Math.floor(rest / 32)) digits += base32[rest % 32];
  return digits;
}

export const memberAddress = (member: string): string => `${member}:7443`;
