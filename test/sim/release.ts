import { encodeCommand } from '../../src/keystate/command-codec.js';
import { checkActiveFormat, commandFormatMax } from '../../src/keystate/command-format.js';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import { IvReservations } from '../../src/replica/iv-reservations.js';
import { joinObstacle } from '../../src/replica/join-cluster.js';
import { ServingLinks } from '../../src/replica/serving-links.js';
import { StandingWatch } from '../../src/replica/standing-watch.js';
import { membersBehind } from '../../src/replica/upgrade-gate.js';
import { Admission } from '../../src/serving/admission.js';
import { IvAccounts } from '../../src/serving/iv-accounts.js';
import { IvReports } from '../../src/serving/iv-reports.js';
import { checkStillUsable, findUsableKey, findUsableVersion } from '../../src/serving/key-lookup.js';
import { StateClient } from '../../src/serving/state-client.js';
import { FreshnessTracker } from '../../src/serving/state-freshness.js';

/** What one release of xksd brings to a node of a simulation over key state. */
export interface Release {
  readonly KeyStateMachine: typeof KeyStateMachine;
  readonly commandFormatMax: number;
  readonly encodeCommand: typeof encodeCommand;
  readonly checkActiveFormat: typeof checkActiveFormat;
  readonly joinObstacle: typeof joinObstacle;
  readonly membersBehind: typeof membersBehind;
  readonly ServingLinks: typeof ServingLinks;
  readonly StandingWatch: typeof StandingWatch;
  readonly StateClient: typeof StateClient;
  readonly IvAccounts: typeof IvAccounts;
  readonly IvReports: typeof IvReports;
  readonly IvReservations: typeof IvReservations;
  readonly FreshnessTracker: typeof FreshnessTracker;
  readonly Admission: typeof Admission;
  readonly findUsableKey: typeof findUsableKey;
  readonly findUsableVersion: typeof findUsableVersion;
  readonly checkStillUsable: typeof checkStillUsable;
}

/** The one under test. */
export const thisRelease: Release = {
  KeyStateMachine,
  commandFormatMax,
  encodeCommand,
  checkActiveFormat,
  joinObstacle,
  membersBehind,
  ServingLinks,
  StandingWatch,
  StateClient,
  IvAccounts,
  IvReports,
  IvReservations,
  FreshnessTracker,
  Admission,
  findUsableKey,
  findUsableVersion,
  checkStillUsable,
};

/** Files below `src/` whose exports are the parts of a release. */
export const releaseFiles: readonly string[] = [
  'keystate/command-codec',
  'keystate/command-format',
  'keystate/state-machine',
  'replica/iv-reservations',
  'replica/join-cluster',
  'replica/serving-links',
  'replica/standing-watch',
  'replica/upgrade-gate',
  'serving/admission',
  'serving/iv-accounts',
  'serving/iv-reports',
  'serving/key-lookup',
  'serving/state-client',
  'serving/state-freshness',
];
