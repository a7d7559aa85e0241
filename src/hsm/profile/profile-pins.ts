import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { isJsonObject } from '../../base/guards.js';
import { err, ok, type Result } from '../../base/result.js';
import { readKeptFile, writeKeptFile } from '../kept-file.js';
import { parseForm } from './gcm-form.js';
import type { LearntProfile } from './probe.js';
import { type ProfileName, profileNames } from './vendor-profiles.js';

/** What is known of a token from one start to the next. */
export interface ProfilePin {
  /** `[[hsm]] profile` when it was pinned: another statement is a new beginning. */
  readonly stated: ProfileName;
  /** `null` where the token was found to be of no use before it was ever probed. */
  readonly profile: LearntProfile | null;
  /**
   * Why it is not to be used until an operator accepts it: as earlier releases kept it, which had one place for both
   * (now: `token-refusals.ts`). Always `null` in what is written.
   */
  readonly refused: string | null;
  readonly atMs: number;
}

const pinBytesMax = 16 * 1024;
const digestCharacters = 16;

/** Where pins lie: one file a token in the data directory, the same for all processes of the node. */
export interface ProfilePins {
  /** `null` for a token that nothing is known of. Fails for a file that is damaged, or cannot be read. */
  read(token: TokenName): Promise<Result<ProfilePin | null, string>>;
  /** Durable when it returns. */
  write(token: TokenName, pin: ProfilePin): Promise<Result<void, string>>;
}

/** The serial, and the label, as some modules give every token the same serial. */
export interface TokenName {
  readonly serial: string;
  readonly label: string;
}

export function profilePins(dataDir: string): ProfilePins {
  return {
    read: (token) => readPin(pathOf(dataDir, token)),
    write: (token, pin) => writeKeptFile(pathOf(dataDir, token), { ...token, ...pin }),
  };
}

/** Names a token in the names of files. */
export function tokenDigest({ serial, label }: TokenName): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([serial, label]))
    .digest('hex');
  return digest.slice(0, digestCharacters);
}

const pathOf = (dataDir: string, token: TokenName): string =>
  join(dataDir, `hsm-profile-${tokenDigest(token)}.json`);

async function readPin(path: string): Promise<Result<ProfilePin | null, string>> {
  const kept = await readKeptFile(path, pinBytesMax);
  if (!kept.ok) return kept;
  if (kept.value === null) return ok(null);
  const pin = kept.value === 'damaged' ? null : parsePin(kept.value);
  return pin === null
    ? err(
        `${path} is damaged: it says what the token is like; accept the token anew: xksctl hsm probe --accept TOKEN`,
      )
    : ok(pin);
}

function parsePin(json: Readonly<Record<string, unknown>>): ProfilePin | null {
  const { refused, atMs } = json;
  const stated = profileNames.find((name) => name === json['stated']);
  const profile = json['profile'] === null ? null : parseProfile(json['profile']);
  if (stated === undefined || profile === undefined || typeof atMs !== 'number') return null;
  return refused === null || typeof refused === 'string' ? { stated, profile, refused, atMs } : null;
}

function parseProfile(value: unknown): LearntProfile | undefined {
  if (!isJsonObject(value)) return undefined;
  const form = parseForm(value);
  const { badTagCodes, oddCodes } = value;
  if (form === null || !isCodes(badTagCodes) || !isCodes(oddCodes)) return undefined;
  return { ...form, badTagCodes, oddCodes };
}

const isCodes = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((code) => typeof code === 'string');
