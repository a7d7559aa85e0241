import type { SourceEdit } from './source-edit.js';

/** Format of what only the next release knows. */
export const nextFormat = 5;
/** Of this release; when it rises, the edits below find nothing, and the next release is to be made up anew. */
const thisFormat = nextFormat - 1;

/** What every release after this one brings: it reads one more format, and writes it once the cluster has agreed to it. */
export const nextFormatEdits: readonly SourceEdit[] = [
  {
    file: 'keystate/command-format',
    find: `commandFormatMax = ${thisFormat};`,
    replace: `commandFormatMax = ${nextFormat};`,
  },
  {
    file: 'keystate/snapshot-records',
    find: `snapshotFormatMax = ${thisFormat};`,
    replace: `snapshotFormatMax = ${nextFormat};`,
  },
  {
    file: 'keystate/snapshot-records',
    find: 'format === snapshotFormatMax',
    replace: `format === ${thisFormat} || format === snapshotFormatMax`,
  },
];
