import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** An empty folder below `parent` for tokens, data and logs; it goes when this process ends, however that comes. */
export function makeWorkDirectory(parent: string): string {
  mkdirSync(parent, { recursive: true });
  const directory = mkdtempSync(join(parent, 'work-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
