import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncDirectory } from '../../base/directory-sync.js';
import { errorText, isJsonObject } from '../../base/guards.js';
import { err, ok, type Result } from '../../base/result.js';
import { readKeptFile, writeKeptFile } from '../kept-file.js';
import { type GcmForm, parseForm } from './gcm-form.js';
import { type TokenName, tokenDigest } from './profile-pins.js';
import { type ProfileName, profileNames } from './vendor-profiles.js';

/** Why a token is not to be used on this node, until an operator accepts it. */
export interface TokenRefusal {
  /** `[[hsm]] profile` then: another statement is a new beginning. */
  readonly stated: ProfileName;
  /** In which the token gave the IV that must not be used. */
  readonly form: GcmForm;
  readonly reason: string;
  readonly atMs: number;
}

/** As it is kept. `refusal`: `null` where what is kept cannot be read, which holds whatever is stated. */
export interface KeptRefusal {
  readonly id: string;
  readonly refusal: TokenRefusal | null;
}

/**
 * The refusals of this node's tokens, in the data directory: the same for all serving processes, and over their restarts.
 * Each is a file of its own, which only an acceptance that has seen it removes: so none is lost to what other processes
 * write at the same time.
 */
export interface TokenRefusals {
  /** Those of a token, the oldest first. Fails, with a sentence, when they cannot be looked for. */
  read(token: TokenName): Promise<Result<readonly KeptRefusal[], string>>;
  /** Durable when it returns. @param id of letters, digits and hyphens; not used before. */
  add(token: TokenName, id: string, refusal: TokenRefusal): Promise<Result<void, string>>;
  /** They hold no longer; those that are gone already don't matter. */
  remove(token: TokenName, refusals: readonly KeptRefusal[]): Promise<Result<void, string>>;
}

const refusalBytesMax = 16 * 1024;
const suffix = '.json';

export function tokenRefusals(dataDir: string): TokenRefusals {
  const prefixOf = (token: TokenName): string => `hsm-refused-${tokenDigest(token)}-`;
  const pathOf = (token: TokenName, id: string): string => join(dataDir, `${prefixOf(token)}${id}${suffix}`);
  return {
    read: async (token) => {
      const prefix = prefixOf(token);
      let names: readonly string[];
      try {
        names = await readdir(dataDir);
      } catch (error) {
        return err(`cannot read ${dataDir}: ${errorText(error)}`);
      }
      const kept: KeptRefusal[] = [];
      for (const name of names) {
        // Not what is being written: it gets its name when it is whole.
        if (!name.startsWith(prefix) || !name.endsWith(suffix)) continue;
        const content = await readKeptFile(join(dataDir, name), refusalBytesMax);
        // Removed meanwhile.
        if (content.ok && content.value === null) continue;
        const json = content.ok && content.value !== 'damaged' ? content.value : null;
        kept.push({
          id: name.slice(prefix.length, -suffix.length),
          refusal: json === null ? null : parseRefusal(json),
        });
      }
      const atMs = ({ refusal }: KeptRefusal): number => refusal?.atMs ?? 0;
      return ok(kept.sort((one, other) => atMs(one) - atMs(other)));
    },
    add: (token, id, refusal) => writeKeptFile(pathOf(token, id), { ...token, ...refusal }),
    remove: async (token, refusals) => {
      if (refusals.length === 0) return ok(undefined);
      try {
        for (const { id } of refusals) await rm(pathOf(token, id), { force: true });
        await syncDirectory(dataDir);
        return ok(undefined);
      } catch (error) {
        return err(`cannot remove what is kept against the token in ${dataDir}: ${errorText(error)}`);
      }
    },
  };
}

function parseRefusal(json: Readonly<Record<string, unknown>>): TokenRefusal | null {
  const { reason, atMs } = json;
  const stated = profileNames.find((name) => name === json['stated']);
  const form = isJsonObject(json['form']) ? parseForm(json['form']) : null;
  if (stated === undefined || form === null || typeof reason !== 'string' || typeof atMs !== 'number')
    return null;
  return { stated, form, reason, atMs };
}
