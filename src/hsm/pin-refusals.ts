import { scrypt, timingSafeEqual } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { errorText, isJsonObject } from '../base/guards.js';
import type { RandomSource } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import { readKeptFile, writeKeptFile } from './kept-file.js';
import type { Pin } from './pin.js';
import { isProcessRunning, processIdentity } from './process-identity.js';

/** A PIN that a token refused: kept so that nobody tries it again. */
export interface PinRefusal {
  /** Which token, see `tokenIdentity`. */
  readonly token: string;
  /** scrypt's salt and output, hexadecimal. PINs are short: the digest is slow, and the file 0600. */
  readonly salt: string;
  readonly digest: string;
  /** `CKR_PIN_INCORRECT` or its like. */
  readonly rv: string;
  readonly atMs: number;
}

interface UnfinishedLogin {
  readonly token: string;
  /** See `processIdentity`. */
  readonly process: string;
}

interface Record {
  readonly refusals: readonly PinRefusal[];
  /** Logins that were begun and whose verdict nobody has written down: the process is in C_Login, or died in it. */
  readonly unfinished: readonly UnfinishedLogin[];
}

/** What holds while this process alone may log in. */
export interface LoginRecord {
  /** The refusal of this very PIN by this token, if there was one. */
  refusalOf(token: string, pin: Pin): Promise<PinRefusal | null>;
  /** How many PINs this token has refused. */
  refusalsOf(token: string): number;
  /** How many logins to this token have no verdict: of processes that run and are waiting for it, and that ended. */
  unfinishedLogins(token: string): { readonly running: number; readonly ended: number };
  /** To be durable before C_Login: counts as unfinished until one of the next three. */
  begin(token: string): Promise<Result<void, string>>;
  /** C_Login came back with an error that says nothing of the PIN. */
  withdraw(token: string): Promise<Result<void, string>>;
  /** The token has taken the PIN. What it made of earlier logins matters no more. */
  conclude(token: string): Promise<Result<void, string>>;
  refuse(token: string, pin: Pin, rv: string): Promise<Result<void, string>>;
  /** Forgets what is known of this token, as an operator asked for. */
  forget(token: string): Promise<Result<void, string>>;
}

const lockPollMs = 25;
/** Bounds how long a login waits for another process's: longer than a network HSM takes for one. */
export const loginLockWaitMs = 15_000;
const recordBytesMax = 256 * 1024;
/** N, r, p of RFC 7914: 32 MiB and about 0.1 s for each guess. */
const scryptCost = { N: 2 ** 15, r: 8, p: 1, maxmem: 64 * 1024 * 1024 } as const;
const digestBytes = 32;
const saltBytes = 16;

const emptyRecord: Record = { refusals: [], unfinished: [] };

/**
 * The record of refused PINs in the data directory, and the lock that makes the logins of this host's processes go
 * one after the other: those that wait see the verdict of the first. A token that counts wrong PINs locks or
 * zeroizes itself after a few, so a refused PIN is tried by no other process and after no restart.
 */
export class PinRefusals {
  readonly #path: string;
  readonly #lockPath: string;
  readonly #tryLockFile: (fd: number) => number;
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #random: RandomSource;
  readonly #isProcessRunning: (identity: string) => boolean;
  /** Refusals that the disk did not take: this process at least keeps to them. */
  #unwritten: readonly PinRefusal[] = [];

  constructor(options: {
    /** The data directory. */
    readonly directory: string;
    /** `NativeBinding.tryLockFile`. */
    readonly tryLockFile: (fd: number) => number;
    readonly clock: Clock;
    readonly timers: Timers;
    readonly random: RandomSource;
    /** Tests have processes die. */
    readonly isProcessRunning?: (identity: string) => boolean;
  }) {
    this.#path = join(options.directory, 'pin-refusals.json');
    this.#lockPath = join(options.directory, 'pin-login.lock');
    this.#tryLockFile = options.tryLockFile;
    this.#clock = options.clock;
    this.#timers = options.timers;
    this.#random = options.random;
    this.#isProcessRunning = options.isProcessRunning ?? isProcessRunning;
  }

  /**
   * Runs `login` while no other process of this host does; fails when the lock is not free in time or the record
   * cannot be read. The lock ends with the file, so with this process at the latest.
   */
  async exclusively<T>(login: (record: LoginRecord) => Promise<T>): Promise<Result<T, string>> {
    let lock: FileHandle;
    try {
      lock = await open(this.#lockPath, constants.O_RDWR | constants.O_CREAT, 0o600);
    } catch (error) {
      return err(`cannot open ${this.#lockPath}: ${errorText(error)}`);
    }
    try {
      const locked = await this.#lock(lock.fd);
      if (!locked.ok) return locked;
      const record = await this.#read();
      return ok(await login(this.#opened(record)));
    } finally {
      await lock.close();
    }
  }

  async #lock(fd: number): Promise<Result<void, string>> {
    const giveUpAtMs = this.#clock.monotonicMs() + loginLockWaitMs;
    for (;;) {
      const errno = this.#tryLockFile(fd);
      if (errno === 0) return ok(undefined);
      if (errno !== ewouldblock && errno !== eintr)
        return err(`cannot lock ${this.#lockPath}: errno ${errno}`);
      if (this.#clock.monotonicMs() >= giveUpAtMs) {
        return err(
          `another process of this host has been logging in for over ${loginLockWaitMs / 1000} s (${this.#lockPath})`,
        );
      }
      await new Promise<void>((resolve) => this.#timers.after(lockPollMs, resolve));
    }
  }

  #opened(initial: Result<Record, string>): LoginRecord {
    let record = initial.ok ? initial.value : emptyRecord;
    let damage = initial.ok ? null : initial.error;
    const save = async (next: Record): Promise<Result<void, string>> => {
      if (damage !== null) return err(damage);
      const written = await this.#write(next);
      if (written.ok) record = next;
      return written;
    };
    const others = <E extends { readonly token: string }>(list: readonly E[], token: string): readonly E[] =>
      list.filter((entry) => entry.token !== token);
    const self = processIdentity();
    const withoutOurs = (token: string): readonly UnfinishedLogin[] =>
      record.unfinished.filter((entry) => entry.token !== token || entry.process !== self);
    return {
      refusalOf: async (token, pin) => {
        for (const refusal of [...record.refusals, ...this.#unwritten]) {
          if (refusal.token !== token) continue;
          const digest = await slowDigest(token, pin, Buffer.from(refusal.salt, 'hex'));
          const known = Buffer.from(refusal.digest, 'hex');
          if (known.byteLength === digest.byteLength && timingSafeEqual(known, digest)) return refusal;
        }
        return null;
      },
      refusalsOf: (token) => record.refusals.filter((refusal) => refusal.token === token).length,
      unfinishedLogins: (token) => {
        const unfinished = record.unfinished.filter((entry) => entry.token === token);
        const running = unfinished.filter(({ process }) => this.#isProcessRunning(process)).length;
        return { running, ended: unfinished.length - running };
      },
      begin: (token) => save({ ...record, unfinished: [...withoutOurs(token), { token, process: self }] }),
      withdraw: (token) => save({ ...record, unfinished: withoutOurs(token) }),
      conclude: (token) => save({ ...record, unfinished: others(record.unfinished, token) }),
      refuse: async (token, pin, rv) => {
        const salt = this.#random.bytes(saltBytes);
        const refusal: PinRefusal = {
          token,
          salt: Buffer.from(salt).toString('hex'),
          digest: (await slowDigest(token, pin, salt)).toString('hex'),
          rv,
          atMs: this.#clock.wallMs(),
        };
        const written = await save({
          refusals: [...record.refusals, refusal],
          unfinished: others(record.unfinished, token),
        });
        if (!written.ok) this.#unwritten = [...this.#unwritten, refusal];
        return written;
      },
      forget: (token) => {
        damage = null;
        this.#unwritten = others(this.#unwritten, token);
        return save({
          refusals: others(record.refusals, token),
          unfinished: others(record.unfinished, token),
        });
      },
    };
  }

  async #read(): Promise<Result<Record, string>> {
    const kept = await readKeptFile(this.#path, recordBytesMax);
    if (!kept.ok) return kept;
    if (kept.value === null) return ok(emptyRecord);
    const record = kept.value === 'damaged' ? null : parseRecord(kept.value);
    return record === null
      ? err(
          `${this.#path} is damaged; it says which PINs were refused, so nobody logs in; run: xksctl hsm login`,
        )
      : ok(record);
  }

  #write(record: Record): Promise<Result<void, string>> {
    return writeKeptFile(this.#path, record);
  }
}

/**
 * What a refusal is tied to: the serial number, and, as some modules give every token the same one, the rest of what
 * does not change while the PIN stays.
 */
export function tokenIdentity(token: {
  readonly manufacturer: string;
  readonly model: string;
  readonly serial: string;
  readonly label: string;
}): string {
  return JSON.stringify([token.manufacturer, token.model, token.serial, token.label]);
}

// errno(3) on Linux.
const eintr = 4;
const ewouldblock = 11;

function slowDigest(token: string, pin: Pin, salt: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(`${token}\0${pin.reveal()}`, salt, digestBytes, scryptCost, (error, digest) => {
      if (error !== null) reject(error);
      else resolve(digest);
    });
  });
}

function parseRecord(json: Readonly<{ [name: string]: unknown }>): Record | null {
  const { refusals, unfinished } = json;
  if (!Array.isArray(refusals) || !refusals.every(isRefusal)) return null;
  if (!Array.isArray(unfinished) || !unfinished.every(isUnfinished)) return null;
  return { refusals, unfinished };
}

function isRefusal(value: unknown): value is PinRefusal {
  return (
    isJsonObject(value) &&
    typeof value['token'] === 'string' &&
    isHex(value['salt'], saltBytes) &&
    isHex(value['digest'], digestBytes) &&
    typeof value['rv'] === 'string' &&
    typeof value['atMs'] === 'number'
  );
}

function isUnfinished(value: unknown): value is UnfinishedLogin {
  return isJsonObject(value) && typeof value['token'] === 'string' && typeof value['process'] === 'string';
}

function isHex(value: unknown, bytes: number): boolean {
  return typeof value === 'string' && value.length === 2 * bytes && /^[0-9a-f]*$/.test(value);
}
