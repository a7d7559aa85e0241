import { consensusBugs } from './consensus-bugs.js';
import { loopBugs } from './loop-bugs.js';
import type { PlantedBug } from './planted-bug.js';
import { recoveryBugs } from './recovery-bugs.js';
import { releaseBugs } from './release-bugs.js';
import { servingBugs } from './serving-bugs.js';
import { stateMachineBugs } from './state-machine-bugs.js';
import { storageBugs } from './storage-bugs.js';

export const plantedBugs: readonly PlantedBug[] = [
  ...consensusBugs,
  ...loopBugs,
  ...storageBugs,
  ...stateMachineBugs,
  ...recoveryBugs,
  ...servingBugs,
  ...releaseBugs,
];
