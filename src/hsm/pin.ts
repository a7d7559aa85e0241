import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { wipe } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import type { PinSource } from './pkcs11-uri.js';

/** A token's user PIN. Prints, inspects and serialises as `[PIN]`. */
export class Pin {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  /** The PIN itself: for C_Login and for the digest of a refusal, nothing else. */
  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return '[PIN]';
  }

  toJSON(): string {
    return '[PIN]';
  }

  [inspect.custom](): string {
    return '[PIN]';
  }
}

/** Longer than any token's ulMaxPinLen; a bigger file is something else. */
export const pinBytesMax = 1_024;

/**
 * Reads the PIN. One newline at its end is not part of it. The error is a sentence for the operator: which file, what
 * is wrong, what to do. It never holds the PIN.
 *
 * @param credentialsDirectory `$CREDENTIALS_DIRECTORY`, `null` when systemd gave none.
 */
export async function readPin(
  source: PinSource,
  credentialsDirectory: string | null,
): Promise<Result<Pin, string>> {
  if (source.kind === 'value') return ok(new Pin(source.pin));
  if (source.kind === 'file') return readPinFile(source.path);
  if (credentialsDirectory === null) {
    return err(
      `the PIN is the systemd credential ${source.name}, but CREDENTIALS_DIRECTORY is not set; ` +
        `the unit needs LoadCredential=${source.name}:/PATH`,
    );
  }
  return readPinFile(join(credentialsDirectory, source.name));
}

async function readPinFile(path: string): Promise<Result<Pin, string>> {
  let file: FileHandle;
  try {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return err(`the PIN file ${path} ${whyUnreadable(error)}`);
  }
  try {
    const { mode, isFile } = await file.stat().then((stat) => ({ mode: stat.mode, isFile: stat.isFile() }));
    if (!isFile) return err(`the PIN file ${path} is not a regular file`);
    if ((mode & 0o007) !== 0) {
      return err(`the PIN file ${path} is open to every user of this host; run: chmod o-rwx ${path}`);
    }
    const buffer = Buffer.alloc(pinBytesMax + 2);
    try {
      const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, 0);
      return pinFrom(buffer.subarray(0, bytesRead), path);
    } finally {
      wipe(buffer);
    }
  } catch (error) {
    return err(`the PIN file ${path} ${whyUnreadable(error)}`);
  } finally {
    await file.close();
  }
}

function pinFrom(content: Buffer, path: string): Result<Pin, string> {
  let end = content.byteLength;
  if (content[end - 1] === 0x0a) end -= content[end - 2] === 0x0d ? 2 : 1;
  if (end === 0) return err(`the PIN file ${path} is empty`);
  if (end > pinBytesMax) return err(`the PIN file ${path} holds more than a PIN (over ${pinBytesMax} bytes)`);
  const bytes = content.subarray(0, end);
  if (bytes.includes(0) || bytes.includes(0x0a)) {
    return err(`the PIN file ${path} holds more than a PIN (several lines, or a NUL)`);
  }
  try {
    return ok(new Pin(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)));
  } catch {
    return err(`the PIN file ${path} is not UTF-8`);
  }
}

function whyUnreadable(error: unknown): string {
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT') return 'does not exist';
  if (code === 'EACCES') return `cannot be read by user id ${process.getuid?.() ?? '?'}`;
  return `cannot be read: ${code ?? 'unknown error'}`;
}
