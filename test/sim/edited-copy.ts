import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Release, releaseFiles } from './release.js';
import { edited, type SourceEdit } from './source-edit.js';

const dist = join(dirname(fileURLToPath(import.meta.url)), '../..');
/** All that the loop, key state, its publication and what serves by it import. */
const copiedFolders = [
  'base',
  'hsm',
  'keystate',
  'ops',
  'raft',
  'replica',
  'replication',
  'serving',
  'sigv4',
  'xks',
];

/**
 * The compiled source with `edits`, in a folder of its own, loaded from there.
 *
 * @param files below `src/`; their exports are the answer, all in one.
 * @throws Error when the code has changed so that an edit has no place any more.
 */
export async function loadEdited(
  name: string,
  edits: readonly SourceEdit[],
  files: readonly string[],
): Promise<unknown> {
  const root = join(dist, 'planted', `${name}-${process.pid}`);
  mkdirSync(root, { recursive: true });
  try {
    for (const folder of copiedFolders) {
      cpSync(join(dist, 'src', folder), join(root, 'src', folder), {
        recursive: true,
        filter: (path) => !path.endsWith('.map') && !path.endsWith('transport'),
      });
    }
    for (const edit of edits) {
      const path = join(root, 'src', `${edit.file}.js`);
      writeFileSync(path, edited(readFileSync(path, 'utf8'), edit, name));
    }
    const exported: object = {};
    for (const file of files) {
      Object.assign(exported, await import(pathToFileURL(join(root, 'src', `${file}.js`)).href));
    }
    return exported;
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

export async function loadRelease(name: string, edits: readonly SourceEdit[]): Promise<Release> {
  return (await loadEdited(name, edits, releaseFiles)) as Release;
}

/** @throws Error as `loadEdited` does; writes and loads nothing. */
export function checkEdits(name: string, edits: readonly SourceEdit[]): void {
  const texts = new Map<string, string>();
  for (const edit of edits) {
    const path = join(dist, 'src', `${edit.file}.js`);
    texts.set(path, edited(texts.get(path) ?? readFileSync(path, 'utf8'), edit, name));
  }
}
