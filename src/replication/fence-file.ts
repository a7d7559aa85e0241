import { join } from 'node:path';
import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { decodeChecksummed, encodeChecksummed } from './checksummed-json.js';
import type { DataDirectoryError } from './data-directory.js';
import type { FileOperations } from './file-operations.js';
import { replaceFile } from './replaced-file.js';

/**
 * Says that this node was told "removed" or "other cluster" and must not serve again, whatever its key state holds: it
 * has not heard what was disabled since.
 */
const fenceName = 'fence.json';

const format = 1;

/** When this resolves well, no later start serves. A fence that is there already is replaced. */
export async function writeFence(
  files: FileOperations,
  dir: string,
  reason: string,
): Promise<Result<null, DataDirectoryError>> {
  try {
    const text = encodeChecksummed({ format, reason });
    await replaceFile(files, dir, fenceName, [Buffer.from(text, 'utf8')]);
    return ok(null);
  } catch (error) {
    return err({ message: `cannot write ${join(dir, fenceName)}: ${errorText(error)}` });
  }
}

/** Why this node must not serve; `null` when it may. A damaged fence is one all the same. */
export async function readFence(
  files: FileOperations,
  dir: string,
): Promise<Result<string | null, DataDirectoryError>> {
  const path = join(dir, fenceName);
  try {
    if ((await files.stat(path)) === null) return ok(null);
    const file = await files.open(path, 'read');
    const text = (await file.readAll()).toString('utf8');
    await file.close();
    const fields = decodeChecksummed(text);
    if (!fields.ok) return ok(`${path} is damaged (${fields.error})`);
    const { reason } = fields.value;
    return ok(typeof reason === 'string' ? reason : `${path} gives no reason`);
  } catch (error) {
    return err({ message: `cannot read ${path}: ${errorText(error)}` });
  }
}
