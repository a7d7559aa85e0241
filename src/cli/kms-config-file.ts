import { closeSync, fsyncSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { wipe } from '../base/bytes.js';
import { errorText } from '../base/guards.js';
import { readSmallFile } from '../base/small-file.js';
import { CommandFailure } from './command-failure.js';

/** The proxy configuration file that the AWS console takes (X-C1). Holds a secret: 0600, made anew, never overwritten. */
export class KmsConfigFile {
  /** Absolute. */
  readonly path: string;
  readonly #fd: number;

  private constructor(path: string, fd: number) {
    this.path = path;
    this.#fd = fd;
  }

  /**
   * Makes the empty file, before there is a secret that could get lost.
   *
   * @throws CommandFailure when it exists, or cannot be made.
   */
  static create(name: string): KmsConfigFile {
    const path = resolve(name);
    try {
      return new KmsConfigFile(path, openSync(path, 'wx', 0o600));
    } catch (thrown) {
      const exists = thrown instanceof Error && 'code' in thrown && thrown.code === 'EEXIST';
      throw new CommandFailure(
        exists ? 'already-exists' : 'failed',
        exists
          ? `${path} exists already and may hold a secret; it is not overwritten. No credential was created.`
          : `cannot make ${path}: ${errorText(thrown)}. No credential was created.`,
      );
    }
  }

  /** @returns why it could not be written; `null` when it was, and is on disk. */
  write(content: {
    readonly uriPath: string;
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
  }): string | null {
    const config = {
      XksProxyUriPath: content.uriPath,
      XksProxyAuthenticationCredential: {
        AccessKeyId: content.accessKeyId,
        RawSecretAccessKey: content.secretAccessKey,
      },
    };
    const bytes = Buffer.from(`${JSON.stringify(config, null, 2)}\n`, 'utf8');
    try {
      let written = 0;
      while (written < bytes.byteLength) written += writeSync(this.#fd, bytes, written);
      fsyncSync(this.#fd);
      closeSync(this.#fd);
      return null;
    } catch (thrown) {
      return `${this.path} could not be written (${errorText(thrown)})`;
    } finally {
      bytes.fill(0);
    }
  }

  /** Takes the file away again. */
  discard(): void {
    try {
      unlinkSync(this.path);
    } catch {
      // Somebody else took it away: that was all there was to do.
    }
  }
}

/** A hundred times what is in it. */
const fileBytesMax = 65_536;

const fileSchema = z.object({
  XksProxyUriPath: z.string(),
  XksProxyAuthenticationCredential: z.object({ AccessKeyId: z.string() }),
});

/**
 * What such a file says of whose credential it holds. Its secret is not kept.
 *
 * @throws CommandFailure when it can't be read, or is no such file.
 */
export function readKmsConfigFile(name: string): { readonly uriPath: string; readonly accessKeyId: string } {
  const path = resolve(name);
  let text: string;
  try {
    const { bytes } = readSmallFile(path, fileBytesMax);
    text = bytes.toString('utf8');
    wipe(bytes);
  } catch (thrown) {
    throw new CommandFailure('failed', `cannot read ${path}: ${errorText(thrown)}.`);
  }
  let json: unknown = null;
  try {
    json = JSON.parse(text);
  } catch {
    // Refused below: what JSON.parse says may quote the secret.
  }
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) {
    throw new CommandFailure(
      'invalid',
      `${path} is no proxy configuration file: give the one that \`xksctl credential create --kms-config\` wrote.`,
    );
  }
  const { XksProxyUriPath: uriPath, XksProxyAuthenticationCredential: credential } = parsed.data;
  return { uriPath, accessKeyId: credential.AccessKeyId };
}
