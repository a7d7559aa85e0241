import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isJsonObject } from '../../src/base/guards.js';
import { nextFormat, nextFormatEdits } from '../sim/next-format.js';
import { edited, type SourceEdit } from '../sim/source-edit.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

export const nextRelease = { version: '99.0.0', format: nextFormat, peerFormat: 2 } as const;

/** Reads and writes one more format of everything, and writes it only once the cluster has agreed to it. */
const edits: readonly SourceEdit[] = [
  ...nextFormatEdits,
  {
    file: 'replica/cluster-peers',
    find: 'peerFormats = { min: 1, max: 1 }',
    replace: `peerFormats = { min: 1, max: ${nextRelease.peerFormat} }`,
  },
  {
    file: 'replica/cluster-peers',
    find: 'format: () => peerFormats.max',
    replace: `format: () => (state().activeFormat() >= ${nextRelease.format} ? ${nextRelease.peerFormat} : 1)`,
  },
];

/**
 * The release after this one, as far as others can tell: this one's compiled files with more formats.
 *
 * @param directory is made. @returns the path of its `xksd.js`.
 */
export function makeNextRelease(directory: string): string {
  mkdirSync(directory, { recursive: true });
  const source = join(directory, 'dist/src');
  cpSync(join(root, 'dist/src'), source, { recursive: true });
  for (const folder of ['node_modules', 'build']) symlinkSync(join(root, folder), join(directory, folder));
  const manifest: unknown = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  if (!isJsonObject(manifest)) throw new Error('package.json is no object');
  writeFileSync(
    join(directory, 'package.json'),
    JSON.stringify({ ...manifest, version: nextRelease.version }),
  );
  for (const edit of edits) {
    const path = join(source, `${edit.file}.js`);
    writeFileSync(path, edited(readFileSync(path, 'utf8'), edit, 'the next release'));
  }
  return join(source, 'cli/xksd.js');
}
