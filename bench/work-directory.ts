import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** An empty folder below `parent` for tokens, data and logs; it goes when this process ends by itself or by a signal that it hears. */
export function makeWorkDirectory(parent: string): string {
  mkdirSync(parent, { recursive: true });
  const directory = mkdtempSync(join(parent, 'work-'));
  process.once('exit', () => {
    try {
      // Processes that were ended right before may still be writing.
      rmSync(directory, { recursive: true, force: true, maxRetries: 3 });
    } catch {
      // What is left is below `var/`, and must not keep others from tidying up.
    }
  });
  return directory;
}
