import type { LogCodec } from '../disk.js';
import { checkEdits as checkPlaces, loadEdited } from '../edited-copy.js';
import { nextReleaseEdits } from '../next-release.js';
import { type Release, releaseFiles } from '../release.js';
import { realBuild, type SimBuild } from '../sim-build.js';
import type { PlantedBug } from './planted-bug.js';

const loopFiles = ['replication/replication-loop', 'replication/lost-quorum', 'replication/peer-gate'];
const codecFiles = [
  'replication/log-items',
  'replication/log-record',
  'replication/segment-file',
  'replication/log-replay',
];

type Loaded = Pick<SimBuild, 'ReplicationLoop' | 'planLostQuorum' | 'refusalFor'> & LogCodec & Release;

/** What runs with the bug: this release, and the next one, which has it too. */
async function editedParts({ name, edits = [], nextReleaseEdits: own = [] }: PlantedBug): Promise<SimBuild> {
  const files = [...loopFiles, ...codecFiles, ...releaseFiles];
  const loaded = (await loadEdited(name, edits, files)) as Loaded;
  const next = await loadEdited(`${name}-next`, [...edits, ...nextReleaseEdits, ...own], releaseFiles);
  return {
    ...realBuild,
    ReplicationLoop: loaded.ReplicationLoop,
    planLostQuorum: loaded.planLostQuorum,
    refusalFor: loaded.refusalFor,
    codec: loaded,
    releases: [loaded, next as Release],
  };
}

/** @throws Error as `buildWith` does; writes and loads nothing. */
export function checkEdits({ name, edits = [], nextReleaseEdits: own = [] }: PlantedBug): void {
  checkPlaces(`bug ${name}`, edits);
  checkPlaces(`bug ${name}`, [...edits, ...nextReleaseEdits, ...own]);
}

/** @throws Error when the code has changed so that the bug can't be planted where it was. */
export async function buildWith(bug: PlantedBug): Promise<SimBuild> {
  const isEdited = bug.edits !== undefined || bug.nextReleaseEdits !== undefined;
  const build = isEdited ? await editedParts(bug) : realBuild;
  return bug.replaceParts?.(build) ?? build;
}
