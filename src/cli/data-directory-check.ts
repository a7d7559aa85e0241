import { accessSync, constants, existsSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { errorText } from '../base/guards.js';
import type { ConfigFindings } from '../serving/hsm-config-check.js';

/** What was seen of a data directory. */
export interface DataDirectorySight {
  readonly dir: string;
  /** `null`: there is nothing by that name. */
  readonly found: { readonly isDirectory: boolean; readonly mode: number; readonly uid: number } | null;
  readonly parentExists: boolean;
  /** Why it cannot be written to; `null` where it can be, or is not there. */
  readonly writeFailure: string | null;
  /** Who asks. */
  readonly uid: number;
}

const root = 0;
const ownersAlone = 0o700;

/**
 * What a data directory is like, as far as one can tell without taking it: a node may be running on it. What lies in it is the
 * business of `xksd run`. Pure.
 */
export function dataDirectoryFindings(sight: DataDirectorySight): ConfigFindings {
  const { dir, found, parentExists, writeFailure, uid } = sight;
  const problem = (text: string): ConfigFindings => ({ problems: [`[node] data_dir: ${text}`], notes: [] });
  const note = (text: string): ConfigFindings => ({ problems: [], notes: [`[node] data_dir: ${text}`] });
  if (found === null && !parentExists) {
    return problem(`${dir} does not exist, and neither does ${dirname(dir)}, in which it would be made`);
  }
  if (found === null) {
    return note(`${dir} does not exist yet: \`xksctl cluster init\` or \`xksctl cluster join\` makes it`);
  }
  if (!found.isDirectory) return problem(`${dir} is not a directory`);
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  if ((found.mode & 0o777) !== ownersAlone) {
    return problem(
      `${dir} has mode ${mode}: its owner alone may enter it, and write there; run: chmod 700 ${dir}`,
    );
  }
  if (found.uid !== uid && uid !== root) {
    return problem(
      `${dir} belongs to the user with id ${found.uid}, and this is ${uid}: xksd runs as its owner`,
    );
  }
  if (writeFailure !== null) return problem(`${dir} cannot be written to: ${writeFailure}`);
  return found.uid === uid
    ? { problems: [], notes: [] }
    : note(`${dir} belongs to the user with id ${found.uid}: xksd has to run as that user`);
}

/** The data directory at `dir`, as the user who runs this sees it. */
export function checkDataDirectory(dir: string): ConfigFindings {
  let stats: Stats | undefined;
  let writeFailure: string | null = null;
  try {
    stats = statIfThere(dir);
    if (stats !== undefined) accessSync(dir, constants.W_OK);
  } catch (thrown) {
    if (stats === undefined) {
      return { problems: [`[node] data_dir: ${dir} cannot be looked at: ${errorText(thrown)}`], notes: [] };
    }
    writeFailure = errorText(thrown);
  }
  const found =
    stats === undefined ? null : { isDirectory: stats.isDirectory(), mode: stats.mode, uid: stats.uid };
  return dataDirectoryFindings({
    dir,
    found,
    parentExists: existsSync(dirname(dir)),
    writeFailure,
    uid: process.geteuid?.() ?? root,
  });
}

/** Unlike with `throwIfNoEntry: false`, which takes ENOTDIR for no entry in some versions of Node. */
function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (thrown) {
    if (thrown instanceof Error && 'code' in thrown && thrown.code === 'ENOENT') return undefined;
    throw thrown;
  }
}
