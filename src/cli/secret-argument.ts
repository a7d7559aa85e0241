import { text } from 'node:stream/consumers';
import { CommandFailure, exitCodes } from './command-failure.js';

/** A secret given as an argument, or else on standard input: not for a terminal, which would show it. */
export async function readSecretArgument(argument: string | undefined, what: string): Promise<string> {
  if (argument !== undefined) return argument;
  if (process.stdin.isTTY === true) {
    throw new CommandFailure('usage', `give ${what} on standard input or as an argument.`, exitCodes.usage);
  }
  const given = await text(process.stdin);
  if (given.trim() !== '') return given;
  throw new CommandFailure(
    'usage',
    `${what} was not given: standard input was empty, and there is no argument.`,
    exitCodes.usage,
  );
}
