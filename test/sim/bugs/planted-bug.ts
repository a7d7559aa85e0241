import type { SimBuild } from '../sim-build.js';

/** Of a compiled file of the code under test: the one place where `find` stands gets `replace` instead. */
export interface SourceEdit {
  /** Below `src/`, without extension. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/** A fault that the simulator must find. Production code knows nothing of it: a copy is edited, or a part replaced. */
export interface PlantedBug {
  readonly name: string;
  /** Whom it happened to; or which rule it breaks. */
  readonly origin: string;
  readonly edits?: readonly SourceEdit[];
  readonly replaceParts?: (build: SimBuild) => SimBuild;
}
