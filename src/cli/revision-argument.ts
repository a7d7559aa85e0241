import { InvalidArgumentError } from 'commander';

/** `--revision`: a log index. */
export function parseRevision(text: string): number {
  const revision = Number(text);
  if (!/^[0-9]+$/.test(text) || !Number.isSafeInteger(revision)) {
    throw new InvalidArgumentError('A revision is a whole number, as `show` prints it.');
  }
  return revision;
}
