import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory } from '../base/directory-sync.js';
import { errorText, isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';

const version = 1;

/**
 * The JSON object of a small file that is kept in the data directory; `null` when there is no file, `'damaged'` when it is
 * none of ours or of more than `bytesMax`. Fails, with a sentence, when it cannot be read.
 */
export async function readKeptFile(
  path: string,
  bytesMax: number,
): Promise<Result<Readonly<Record<string, unknown>> | null | 'damaged', string>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return ok(null);
    return err(`cannot read ${path}: ${errorText(error)}`);
  }
  return ok(parse(text, bytesMax) ?? 'damaged');
}

/** Atomic and durable, 0600: a crash leaves the old file or the new one. Fails with a sentence. */
export async function writeKeptFile(path: string, content: object): Promise<Result<void, string>> {
  const temporary = `${path}.${randomUUID()}`;
  try {
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ version, ...content }, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
    return ok(undefined);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    return err(`cannot write ${path}: ${errorText(error)}`);
  }
}

function parse(text: string, bytesMax: number): Readonly<Record<string, unknown>> | null {
  if (text.length > bytesMax) return null;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return null;
  }
  return isJsonObject(json) && json['version'] === version ? json : null;
}
