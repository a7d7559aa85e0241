import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { LogCodec } from '../disk.js';
import { realBuild, type SimBuild } from '../sim-build.js';
import type { PlantedBug, SourceEdit } from './planted-bug.js';

const dist = join(dirname(fileURLToPath(import.meta.url)), '../../..');
/** All that the loop imports. */
const copiedFolders = ['base', 'raft', 'replication'];

type LoopModule = Pick<SimBuild, 'ReplicationLoop'>;

function edited(text: string, { file, find, replace }: SourceEdit, name: string): string {
  const parts = text.split(find);
  if (parts.length !== 2) {
    throw new Error(
      `bug ${name}: ${file}.js has ${parts.length - 1} places like "${find}", not 1: plant it anew`,
    );
  }
  return parts.join(replace);
}

/** The compiled source with the bug's edits, in a folder of its own, loaded from there. */
async function editedParts(name: string, edits: readonly SourceEdit[]): Promise<SimBuild> {
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
    const load = async (file: string): Promise<unknown> =>
      await import(pathToFileURL(join(root, 'src/replication', file)).href);
    const loop = (await load('replication-loop.js')) as LoopModule;
    const codec = {
      ...((await load('log-items.js')) as Pick<LogCodec, 'encodeItems'>),
      ...((await load('log-record.js')) as Pick<LogCodec, 'encodeRecord'>),
      ...((await load('segment-file.js')) as Pick<LogCodec, 'readSegment'>),
      ...((await load('log-replay.js')) as Pick<LogCodec, 'replay'>),
    };
    return {
      ...realBuild,
      ReplicationLoop: loop.ReplicationLoop,
      codec,
      ...((await load('lost-quorum.js')) as Pick<SimBuild, 'planLostQuorum'>),
      ...((await load('peer-gate.js')) as Pick<SimBuild, 'refusalFor'>),
    };
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** @throws Error as `buildWith` does; writes and loads nothing. */
export function checkEdits({ name, edits = [] }: PlantedBug): void {
  const texts = new Map<string, string>();
  for (const edit of edits) {
    const path = join(dist, 'src', `${edit.file}.js`);
    texts.set(path, edited(texts.get(path) ?? readFileSync(path, 'utf8'), edit, name));
  }
}

/** @throws Error when the code has changed so that the bug can't be planted where it was. */
export async function buildWith(bug: PlantedBug): Promise<SimBuild> {
  const build = bug.edits === undefined ? realBuild : await editedParts(bug.name, bug.edits);
  return bug.replaceParts?.(build) ?? build;
}
