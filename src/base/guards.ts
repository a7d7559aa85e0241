/** A broken invariant: a bug of ours, never a caller's input. */
export class InvariantViolation extends Error {
  override readonly name = 'InvariantViolation';
}

/** Throws unless `condition` holds. For programmer errors only; expected failures are `Result`s. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantViolation(message);
}

/** Makes a `switch` over a union total: the compiler refuses it while a case is missing. */
export function unreachable(value: never): never {
  throw new InvariantViolation(`unreachable: ${JSON.stringify(value)}`);
}

/** A JSON object: neither null nor an array. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The message of whatever was thrown. */
export function errorText(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
