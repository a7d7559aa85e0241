import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isJsonObject } from '../../src/base/guards.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));

/** A place in the compiled source, and what the release to come has there. */
interface SourceEdit {
  /** Under `dist/src`, without its ending. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export const nextRelease = { version: '99.0.0', format: 3, peerFormat: 2 } as const;
/** Of this release; when they rise, the edits below find nothing, and the next release is to be made up anew. */
const thisFormat = nextRelease.format - 1;

/** Reads and writes one more format of everything, and writes it only once the cluster has agreed to it. */
const edits: readonly SourceEdit[] = [
  {
    file: 'keystate/command-format',
    find: `commandFormatMax = ${thisFormat};`,
    replace: `commandFormatMax = ${nextRelease.format};`,
  },
  {
    file: 'keystate/snapshot-records',
    find: `snapshotFormatMax = ${thisFormat};`,
    replace: `snapshotFormatMax = ${nextRelease.format};`,
  },
  {
    file: 'keystate/snapshot-records',
    find: 'format === snapshotFormatMax',
    replace: `format === ${thisFormat} || format === snapshotFormatMax`,
  },
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

function edit(path: string, { find, replace }: SourceEdit): void {
  const parts = readFileSync(path, 'utf8').split(find);
  if (parts.length !== 2) throw new Error(`${path} has ${parts.length - 1} places like "${find}", not 1`);
  writeFileSync(path, parts.join(replace));
}

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
  for (const one of edits) edit(join(source, `${one.file}.js`), one);
  return join(source, 'cli/xksd.js');
}
