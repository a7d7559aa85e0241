const pattern = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/;

/** `yyyymmddThhmmssZ` as milliseconds since the Unix epoch; `null` for anything else. */
export function parseAmzDate(text: string): number | null {
  const match = pattern.exec(text);
  if (match === null) return null;
  const [, year, month, day, hour, minute, second] = match;
  const atMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // Days that a month does not have would be carried over into the next one.
  return !Number.isNaN(atMs) && formatAmzDate(atMs) === text ? atMs : null;
}

/** Milliseconds since the Unix epoch as `yyyymmddThhmmssZ`. */
export function formatAmzDate(atMs: number): string {
  return `${new Date(atMs).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
}
