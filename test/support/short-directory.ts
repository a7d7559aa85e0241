import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';

/** A directory of this test's own with a path short enough for unix sockets, gone when the test ends. */
export function shortDirectory(t: Test): string {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}
