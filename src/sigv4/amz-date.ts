const pattern = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

const daysBeforeMonth = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365] as const;
const msPerDay = 86_400_000;

const isLeapYear = (year: number): boolean => year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);

/** Days from 1 January of the year 0 (Gregorian, proleptic) to that of `year`. */
const daysBeforeYear = (year: number): number =>
  365 * year + Math.ceil(year / 4) - Math.ceil(year / 100) + Math.ceil(year / 400);

const epochDays = daysBeforeYear(1970);

/**
 * `yyyymmddThhmmssZ` as milliseconds since the Unix epoch; `null` for anything else, a day that its month does not have
 * among it. Asked with every request, so reckoned without a `Date`.
 */
export function parseAmzDate(text: string): number | null {
  const match = pattern.exec(text);
  if (match === null) return null;
  const [year, month, day] = [Number(match[1]), Number(match[2]), Number(match[3])];
  const [hour, minute, second] = [Number(match[4]), Number(match[5]), Number(match[6])];
  const before = daysBeforeMonth[month - 1];
  const after = daysBeforeMonth[month];
  if (before === undefined || after === undefined || hour > 23 || minute > 59 || second > 59) return null;
  const leapDay = isLeapYear(year) ? 1 : 0;
  if (day < 1 || day > after - before + (month === 2 ? leapDay : 0)) return null;
  const days = daysBeforeYear(year) - epochDays + before + (month > 2 ? leapDay : 0) + day - 1;
  return days * msPerDay + ((hour * 60 + minute) * 60 + second) * 1_000;
}

/** Milliseconds since the Unix epoch as `yyyymmddThhmmssZ`. */
export function formatAmzDate(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
}
