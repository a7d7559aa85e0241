import { createHash } from 'node:crypto';
import { isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';

/** A JSON object whose last field is a checksum over the others, in the order given. */
export function encodeChecksummed(fields: object): string {
  const checksum = createHash('sha256').update(JSON.stringify(fields)).digest('hex');
  return `${JSON.stringify({ ...fields, checksum }, null, 2)}\n`;
}

/** The fields, or what is wrong: every byte counts. */
export function decodeChecksummed(text: string): Result<Readonly<Record<string, unknown>>, string> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return err('it is not JSON');
  }
  if (!isJsonObject(json)) return err('it is not an object');
  const { checksum: _, ...fields } = json;
  return encodeChecksummed(fields) === text ? ok(fields) : err('it does not match its checksum');
}
