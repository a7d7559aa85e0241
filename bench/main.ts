import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { errorText } from '../src/base/guards.js';
import { autocannonCommand } from './autocannon-command.js';
import { k6Command } from './k6-command.js';
import { type RungName, rungs } from './ladder/rungs.js';
import { ladderCommand, ladderSecondsDefault, microCommand } from './ladder-command.js';
import { leakCommand, leakSecondsMin } from './leak-command.js';
import { loadCommand } from './load-command.js';
import { loadOptions, withLoadOptions } from './options.js';

/** `npm run bench`: every way in which the proxy is measured. docs: bench/README.md. */
const root = join(dirname(fileURLToPath(import.meta.url)), '../..');

function rungNames(text: string): readonly RungName[] {
  const asked = text.split(',');
  const found = rungs.map(({ name }) => name).filter((name) => asked.includes(name));
  if (found.length === asked.length) return found;
  throw new InvalidArgumentError(`The rungs are ${rungs.map(({ name }) => name).join(', ')}.`);
}

const program = new Command('bench')
  .description(
    'Is the rate that KMS may send to one key store answered, in time and without an error? Starts a node of its own, or takes --target.',
  )
  .enablePositionalOptions()
  // Before there are other commands: they inherit it.
  .exitOverride((failure) => process.exit(failure.exitCode === 0 ? 0 : 2));
withLoadOptions(program, { duration: 60, modes: true, proxy: true, out: true }).action(
  async (_flags, command: Command) => {
    process.exitCode = await loadCommand(root, loadOptions(command));
  },
);
withLoadOptions(
  program.command('ladder').description('where the CPU of a request goes, from a bare HTTPS server upwards'),
  { duration: ladderSecondsDefault },
)
  .addOption(
    new Option('--rungs <names>', 'only these, separated by commas').argParser(rungNames).default(
      rungs.map(({ name }) => name),
      'all',
    ),
  )
  .action(async (flags: { readonly rungs: readonly RungName[] }, command: Command) => {
    process.exitCode = await ladderCommand(root, loadOptions(command), flags.rungs);
  });
withLoadOptions(
  program.command('k6').description('the same load by k6 (https://k6.io), which must be installed'),
  { duration: 60, proxy: true },
).action(async (_flags, command: Command) => {
  process.exitCode = await k6Command(root, loadOptions(command));
});
withLoadOptions(program.command('autocannon').description('the same load by autocannon'), {
  duration: 60,
  proxy: true,
}).action(async (_flags, command: Command) => {
  process.exitCode = await autocannonCommand(root, loadOptions(command));
});
withLoadOptions(program.command('leak').description('the rate for half an hour: does anything grow?'), {
  duration: 1_800,
  proxy: true,
  out: true,
}).action(async (_flags, command: Command) => {
  const options = loadOptions(command);
  if (options.seconds < leakSecondsMin)
    command.error(`error: --duration must be at least ${leakSecondsMin}: less shows no slope`);
  process.exitCode = await leakCommand(root, options);
});
program
  .command('micro')
  .description('the parts by themselves: signatures, key state, the token, and a C program for its ceiling')
  .action(async () => {
    process.exitCode = await microCommand(root);
  });

// Ends by `exit`, whose listeners end what was started.
for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)
  process.once(signal, () => process.exit(status));

try {
  await program.parseAsync();
} catch (failure) {
  console.error(`bench: ${errorText(failure)}`);
  process.exitCode = 1;
}
