import { fileURLToPath } from 'node:url';
import { runSupervisor } from '../../src/supervisor/main.js';

/** Runs a real supervisor over `supervised-child.ts`: `node supervisor-process.js CONFIG`. */
const child = fileURLToPath(new URL('./supervised-child.js', import.meta.url));
process.exit(
  await runSupervisor({
    configPath: process.argv[2] ?? '',
    tracePkcs11: false,
    childCommand: () => [process.execPath, child],
    obstacle: async () => process.env['TEST_OBSTACLE'] ?? null,
  }),
);
