#!/usr/bin/env node
import { fileURLToPath } from 'node:url';
import { exitCodes } from './command-failure.js';

/**
 * The daemon. `run` is the supervisor; it starts this file again as `replica` and `serving`. Each role loads only what
 * it needs, so that a serving process is back soon after it died.
 */

// Node opens its inspector at this signal, and through it whoever may send signals would read keys and secrets.
process.on('SIGUSR1', () => {});

const [, ownPath = fileURLToPath(import.meta.url), role] = process.argv;

if (role === 'replica' || role === 'serving') {
  if (process.send === undefined) {
    process.stderr.write(`xksd: "${role}" is started by "xksd run"\n`);
    process.exit(exitCodes.usage);
  }
  // Each ends its process itself.
  if (role === 'replica') await (await import('../replica/main.js')).runReplica();
  else await (await import('../serving/main.js')).runServingProcess();
} else {
  const { runXksdCommand } = await import('./xksd-commands.js');
  process.exit(await runXksdCommand(process.argv, ownPath));
}
