import { join } from 'node:path';
import type { FileOperations } from './file-operations.js';

/**
 * Writes a small file anew. After a crash it is there as it was or as it is now; when this resolves, as it is now. A
 * crash may leave `NAME.tmp`, which the next attempt replaces.
 */
export async function replaceFile(
  files: FileOperations,
  directory: string,
  name: string,
  chunks: Iterable<Uint8Array>,
): Promise<void> {
  const path = join(directory, name);
  const temporary = `${path}.tmp`;
  if ((await files.stat(temporary)) !== null) await files.remove(temporary);
  const file = await files.open(temporary, 'create');
  try {
    let offset = 0;
    for (const chunk of chunks) {
      await file.write(offset, chunk);
      offset += chunk.byteLength;
    }
    await file.dataSync();
  } finally {
    await file.close();
  }
  await files.rename(temporary, path);
  await files.syncDirectory(directory);
}
