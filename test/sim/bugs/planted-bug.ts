import type { SimBuild } from '../sim-build.js';
import type { SourceEdit } from '../source-edit.js';

/** A fault that the simulator must find. Production code knows nothing of it: a copy is edited, or a part replaced. */
export interface PlantedBug {
  readonly name: string;
  /** Whom it happened to; or which rule it breaks. */
  readonly origin: string;
  readonly edits?: readonly SourceEdit[];
  /** In the next release only, on top of the others. */
  readonly nextReleaseEdits?: readonly SourceEdit[];
  readonly replaceParts?: (build: SimBuild) => SimBuild;
}
