/** Of a compiled file of the code under test: the one place where `find` stands gets `replace` instead. */
export interface SourceEdit {
  /** Below `src/`, without extension. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

/**
 * @param text of the file. @param purpose what the edit is for.
 * @throws Error when the code has changed so that the edit has no place any more.
 */
export function edited(text: string, { file, find, replace }: SourceEdit, purpose: string): string {
  const parts = text.split(find);
  if (parts.length !== 2) {
    throw new Error(
      `${purpose}: ${file}.js has ${parts.length - 1} places like "${find}", not 1: plant it anew`,
    );
  }
  return parts.join(replace);
}
