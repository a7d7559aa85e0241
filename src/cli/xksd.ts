#!/usr/bin/env node
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { loadNativeBinding } from '../base/native.js';
import { exitCodes } from './command-failure.js';

/**
 * The daemon. `run` is the supervisor; it starts this file again as `replica` and `serving`, and as `standby`, which waits
 * to be the replica. Each role loads only what it needs, so that a serving process is back soon after it died.
 */

// Node opens its inspector at this signal, and through it whoever may send signals would read keys and secrets.
process.on('SIGUSR1', () => {});

const [, ownPath = fileURLToPath(import.meta.url), role] = process.argv;

/** What people see of a standby (ps(1)) from the moment in which it is the replica; it has as many letters, the room there is. */
const nameReplica = (): void => {
  process.title = [process.argv0, ...process.execArgv, ownPath, 'replica'].join(' ');
};

if (role === 'replica' || role === 'standby' || role === 'serving') {
  if (process.send === undefined) {
    process.stderr.write(`xksd: "${role}" is started by "xksd run"\n`);
    process.exit(exitCodes.usage);
  }
  // While the rest is loaded, which a standby is in no hurry to do, the supervisor may be killed.
  loadNativeBinding().setParentDeathSignal(constants.signals.SIGKILL);
  if (role === 'standby') await (await import('../replica/slow-loading.js')).loadSlowly();
  // Each ends its process itself.
  if (role === 'serving') await (await import('../serving/main.js')).runServingProcess();
  else await (await import('../replica/main.js')).runReplica(role === 'standby' ? nameReplica : () => {});
} else {
  const { runXksdCommand } = await import('./xksd-commands.js');
  process.exit(await runXksdCommand(process.argv, ownPath));
}
