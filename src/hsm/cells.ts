import { invariant } from '../base/guards.js';
import type { DecryptOperation, EncryptOperation, EncryptResult, KeyObject } from './types.js';

/**
 * Shared memory that carries operations between this thread and the lanes: the workers and their native threads.
 * `native/crypto_cell.h` is the twin of this layout and draws the states of a cell.
 *
 * A cell that native code has taken belongs to it until its completion has been consumed here, whatever became of the
 * request: only then is it wiped and given to somebody else, under another generation.
 */

/** Longest GCM AAD with its framing, longest integrity prefix, longest plaintext or ciphertext, in bytes. */
export const cellLimits = {
  gcmAadBytesMax: 16_448,
  integrityPrefixBytesMax: 16_448,
  dataBytesMax: 16_384,
  objectIdBytesMax: 64,
  witnessCiphertextBytesMax: 64,
} as const;

const controlBytes = 64;
const headerBytes = 512;
/** Enough for a data key under an encryption context of ordinary length. */
const smallCellBytes = 2_048;
const largeCellBytes =
  headerBytes + cellLimits.gcmAadBytesMax + cellLimits.integrityPrefixBytesMax + cellLimits.dataBytesMax;
const smallCells = 512;
const largeCells = 256;

/** Cells of both sizes: the most operations that can be queued or out at once. */
export const cellsMax = smallCells + largeCells;

const state = { free: 0, submitted: 1, running: 2, done: 3 } as const;
const stateBits = 3;
const generationMask = 0x1fff_ffff;

const operationCode = { encrypt: 1, decrypt: 2, probe: 3 } as const;
const flagVerify = 1;
const flagIntegrity = 2;
const flagTrial = 4;

/** Offsets into a cell, in 32-bit words. */
const word = {
  state: 0,
  operation: 1,
  flags: 2,
  aadBytes: 3,
  prefixBytes: 4,
  dataBytes: 5,
  ivBytes: 6,
  askUntilMicros: 7,
  result: 8,
  rv: 9,
  functionIndex: 10,
  loginLost: 11,
  micros: 12,
  roundTrips: 13,
  encryptions: 14,
  refusals: 15,
} as const;

/** Offsets into a cell, in bytes. */
const offset = { key: 64, canary: 256, iv: 448, tag: 464, integrity: 480, variable: headerBytes } as const;
/** Offsets into a key block, in bytes. */
const keyOffset = {
  objectIdBytes: 0,
  witnessBytes: 4,
  objectId: 8,
  iv: 72,
  tag: 84,
  ciphertext: 100,
} as const;

const ivBytesMax = 16;
const tagBytes = 16;
const integrityBytes = 32;

/** A cell in use. It names this use of the cell only: the next one has another generation. */
export interface CellRef {
  readonly index: number;
  readonly generation: number;
}

/** What goes with every operation of a pool. */
export interface CellContext {
  readonly canary: KeyObject | null;
  /** How the token wants AES-GCM, and what it gives for a bad tag (`formFlags`). */
  readonly formFlags: number;
  /** A case of a probe: the token's answer as it is, without witness, canary or second try. */
  readonly isTrial: boolean;
}

/** How often the token is asked, before a ciphertext is called bad (`ciphertext-doubt.ts`). */
export interface RefusalsAsked {
  /** `refusalFlags` */
  readonly flags: number;
  /** Until when it may be asked again, in `NativeBinding.monotonicMicros()`: no more than half an hour away. */
  readonly untilMicros: number;
}

const refusalsMask = 0xff;
const spuriousBit = 0x100;
const doubtedBit = 0x200;
const refusalsBitsAt = { wanted: 16, least: 20, ownWord: 24 } as const;

/**
 * Each 1 to 15: as often as wanted where there is time, and no less than the least; of codes that say what is meant, or 0 where
 * they count as any other.
 */
export const refusalFlags = (wanted: number, least: number, ownWord: number): number =>
  (wanted << refusalsBitsAt.wanted) | (least << refusalsBitsAt.least) | (ownWord << refusalsBitsAt.ownWord);

/** A token as most are, of which nothing is known. */
export const plainContext: CellContext = { canary: null, formFlags: 0, isTrial: false };

/** What native code left in a cell. */
export interface CellOutcome {
  readonly result: 'ok' | 'bad-ciphertext' | 'token-unavailable' | 'key-lost' | 'failed' | 'unsafe-iv';
  /** A case of a probe. */
  readonly isTrial: boolean;
  /** The return value that decided, 0 where none did. */
  readonly rv: number;
  readonly functionIndex: number;
  readonly loginLost: boolean;
  /** Microseconds inside the module. */
  readonly micros: number;
  /** PKCS#11 calls it took. */
  readonly roundTrips: number;
  /** C_Encrypt calls that were begun. */
  readonly encryptions: number;
  /** How often the token refused the ciphertext; of a decrypt. */
  readonly refusals: number;
  /** A code that may mean a bad ciphertext came where it cannot have meant that. */
  readonly spurious: boolean;
  /** The ciphertext may well be bad, but was not refused often enough: the result is `failed`. */
  readonly doubted: boolean;
}

/** C_Encrypt calls of one operation at most (`native/crypto_cell.h`). */
export const encryptionsPerOperationMax = 6;

const resultNames: readonly CellOutcome['result'][] = [
  'failed',
  'ok',
  'bad-ciphertext',
  'token-unavailable',
  'key-lost',
  'failed',
  'unsafe-iv',
];

/** The cells of one pool, as the thread that owns the pool sees them. */
export class Cells {
  /** To be shared with the workers. */
  readonly memory: SharedArrayBuffer;
  readonly #bytes: Buffer;
  readonly #words: Uint32Array;
  readonly #freeSmall: number[] = [];
  readonly #freeLarge: number[] = [];
  #loginEpoch = 1;

  constructor() {
    this.memory = new SharedArrayBuffer(
      controlBytes + smallCells * smallCellBytes + largeCells * largeCellBytes,
    );
    this.#bytes = Buffer.from(this.memory);
    this.#words = new Uint32Array(this.memory);
    this.#words.set([this.#loginEpoch, smallCells, smallCellBytes, largeCells, largeCellBytes]);
    for (let index = smallCells - 1; index >= 0; index--) this.#freeSmall.push(index);
    for (let index = cellsMax - 1; index >= smallCells; index--) this.#freeLarge.push(index);
  }

  get free(): number {
    return this.#freeSmall.length + this.#freeLarge.length;
  }

  /** Every session is opened again, and every handle found again, before the next operation. */
  beginLogin(): void {
    this.#loginEpoch += 1;
    Atomics.store(this.#words, 0, this.#loginEpoch);
  }

  /** Puts an encrypt into a free cell and offers it to native code; `null` when no cell of its size is free. */
  putEncrypt(operation: EncryptOperation, { canary, formFlags, isTrial }: CellContext): CellRef | null {
    const prefix = operation.integrityPrefix;
    const ref = this.#take(operation.gcmAad.length + (prefix?.length ?? 0) + operation.plaintext.length);
    if (ref === null) return null;
    const at = this.#start(ref.index);
    const flags =
      formFlags |
      (isTrial ? flagTrial : 0) |
      (operation.verify ? flagVerify : 0) |
      (prefix === null ? 0 : flagIntegrity);
    this.#putRequest(at, operationCode.encrypt, flags, operation.gcmAad, prefix, operation.plaintext);
    this.#putKeys(at, operation.key, canary);
    this.#setWord(at, word.ivBytes, 0);
    this.#submit(ref);
    return ref;
  }

  /** Puts a decrypt into a free cell and offers it to native code; `null` when no cell of its size is free. */
  putDecrypt(
    operation: DecryptOperation,
    { canary, formFlags, isTrial }: CellContext,
    doubt: RefusalsAsked,
  ): CellRef | null {
    const ref = this.#take(operation.gcmAad.length + operation.ciphertext.length);
    if (ref === null) return null;
    const at = this.#start(ref.index);
    const flags = formFlags | (isTrial ? flagTrial : 0) | doubt.flags;
    this.#putRequest(at, operationCode.decrypt, flags, operation.gcmAad, null, operation.ciphertext);
    this.#putKeys(at, operation.key, canary);
    this.#setWord(at, word.ivBytes, operation.iv.length);
    // Its low 32 bits are what the array keeps.
    this.#setWord(at, word.askUntilMicros, doubt.untilMicros);
    this.#bytes.set(operation.iv, at + offset.iv);
    this.#bytes.set(operation.tag, at + offset.tag);
    this.#submit(ref);
    return ref;
  }

  /** An operation that only makes sure that a session is open and logged in. */
  putProbe(): CellRef | null {
    const ref = this.#take(0);
    if (ref === null) return null;
    const at = this.#start(ref.index);
    this.#putRequest(at, operationCode.probe, 0, new Uint8Array(), null, new Uint8Array());
    this.#putKeys(at, null, null);
    this.#setWord(at, word.ivBytes, 0);
    this.#submit(ref);
    return ref;
  }

  /** Whether native code has finished this use of the cell. */
  isDone(ref: CellRef): boolean {
    return Atomics.load(this.#words, this.#start(ref.index) >> 2) === packed(ref.generation, state.done);
  }

  /** Whether native code has taken this use of the cell, and not finished it. */
  isRunning(ref: CellRef): boolean {
    return Atomics.load(this.#words, this.#start(ref.index) >> 2) === packed(ref.generation, state.running);
  }

  /** Takes the cell back and frees it, unless native code has taken it. @returns whether it was withdrawn. */
  withdraw(ref: CellRef): boolean {
    const at = this.#start(ref.index) >> 2;
    const submitted = packed(ref.generation, state.submitted);
    // The next generation at once: whoever still holds this one's number finds a cell that is not meant.
    const withdrawn = packed(next(ref.generation), state.free);
    if (Atomics.compareExchange(this.#words, at, submitted, withdrawn) !== submitted) return false;
    this.#recycle(ref.index);
    return true;
  }

  /** How a finished operation went. */
  outcome(ref: CellRef): CellOutcome {
    const at = this.#doneStart(ref);
    return {
      result: resultNames[this.#word(at, word.result)] ?? 'failed',
      isTrial: (this.#word(at, word.flags) & flagTrial) !== 0,
      rv: this.#word(at, word.rv),
      functionIndex: this.#word(at, word.functionIndex),
      loginLost: this.#word(at, word.loginLost) === 1,
      micros: this.#word(at, word.micros),
      roundTrips: this.#word(at, word.roundTrips),
      encryptions: this.#word(at, word.encryptions),
      refusals: this.#word(at, word.refusals) & refusalsMask,
      spurious: (this.#word(at, word.refusals) & spuriousBit) !== 0,
      doubted: (this.#word(at, word.refusals) & doubtedBit) !== 0,
    };
  }

  /** The result of a finished encrypt, copied. */
  encryptResult(ref: CellRef): EncryptResult {
    const at = this.#doneStart(ref);
    const hasIntegrity = (this.#word(at, word.flags) & flagIntegrity) !== 0;
    return {
      ciphertext: this.#data(at),
      iv: this.#copy(at + offset.iv, this.#word(at, word.ivBytes)),
      tag: this.#copy(at + offset.tag, tagBytes),
      integrityValue: hasIntegrity ? this.#copy(at + offset.integrity, integrityBytes) : null,
    };
  }

  /** The plaintext of a finished decrypt, copied: the caller's to wipe. */
  plaintext(ref: CellRef): Uint8Array {
    return this.#data(this.#doneStart(ref));
  }

  /** Wipes and frees a cell whose completion has been consumed. */
  release(ref: CellRef): void {
    const at = this.#doneStart(ref);
    this.#recycle(ref.index);
    Atomics.store(this.#words, at >> 2, packed(next(ref.generation), state.free));
  }

  #take(variableBytes: number): CellRef | null {
    const fitsSmall = variableBytes <= smallCellBytes - headerBytes;
    const index = (fitsSmall ? this.#freeSmall.pop() : undefined) ?? this.#freeLarge.pop();
    if (index === undefined) return null;
    const current = Atomics.load(this.#words, this.#start(index) >> 2);
    invariant((current & ((1 << stateBits) - 1)) === state.free, 'a cell in the free list is in use');
    return { index, generation: current >>> stateBits };
  }

  #submit(ref: CellRef): void {
    Atomics.store(this.#words, this.#start(ref.index) >> 2, packed(ref.generation, state.submitted));
  }

  #recycle(index: number): void {
    const at = this.#start(index);
    const used =
      this.#word(at, word.aadBytes) + this.#word(at, word.prefixBytes) + this.#word(at, word.dataBytes);
    this.#bytes.fill(0, at + offset.iv, at + offset.variable + used);
    (index < smallCells ? this.#freeSmall : this.#freeLarge).push(index);
  }

  #putRequest(
    at: number,
    operation: number,
    flags: number,
    aad: Uint8Array,
    prefix: Uint8Array | null,
    data: Uint8Array,
  ): void {
    this.#setWord(at, word.operation, operation);
    this.#setWord(at, word.flags, flags);
    this.#setWord(at, word.aadBytes, aad.length);
    this.#setWord(at, word.prefixBytes, prefix?.length ?? 0);
    this.#setWord(at, word.dataBytes, data.length);
    this.#words.fill(0, (at >> 2) + word.result, (at + offset.key) >> 2);
    const variable = at + offset.variable;
    this.#bytes.set(aad, variable);
    if (prefix !== null) this.#bytes.set(prefix, variable + aad.length);
    this.#bytes.set(data, variable + aad.length + (prefix?.length ?? 0));
  }

  #putKeys(at: number, key: KeyObject | null, canary: KeyObject | null): void {
    this.#putKey(at + offset.key, key);
    this.#putKey(at + offset.canary, canary);
  }

  #putKey(at: number, key: KeyObject | null): void {
    const witness = key?.witness ?? null;
    this.#words[at >> 2] = key === null ? 0 : key.objectId.length >> 1;
    this.#words[(at + keyOffset.witnessBytes) >> 2] = witness === null ? 0 : witness.ciphertext.length;
    if (key !== null) this.#bytes.write(key.objectId, at + keyOffset.objectId, 'hex');
    if (witness === null) return;
    this.#bytes.set(witness.iv, at + keyOffset.iv);
    this.#bytes.set(witness.tag, at + keyOffset.tag);
    this.#bytes.set(witness.ciphertext, at + keyOffset.ciphertext);
  }

  #data(at: number): Uint8Array {
    const before = this.#word(at, word.aadBytes) + this.#word(at, word.prefixBytes);
    return this.#copy(at + offset.variable + before, this.#word(at, word.dataBytes));
  }

  /** Out of the shared memory, and not into Node's buffer pool: nobody else's bytes lie beside it. */
  #copy(from: number, length: number): Uint8Array {
    const copy = new Uint8Array(length);
    copy.set(this.#bytes.subarray(from, from + length));
    return copy;
  }

  #start(index: number): number {
    return index < smallCells
      ? controlBytes + index * smallCellBytes
      : controlBytes + smallCells * smallCellBytes + (index - smallCells) * largeCellBytes;
  }

  #doneStart(ref: CellRef): number {
    invariant(this.isDone(ref), 'native code has not given this cell back');
    return this.#start(ref.index);
  }

  #word(at: number, index: number): number {
    return this.#words[(at >> 2) + index] ?? 0;
  }

  #setWord(at: number, index: number, value: number): void {
    this.#words[(at >> 2) + index] = value;
  }
}

/** Whether an operation fits a cell, field by field. */
export function fitsCell(operation: EncryptOperation | DecryptOperation): boolean {
  const data = 'plaintext' in operation ? operation.plaintext : operation.ciphertext;
  const prefix = 'plaintext' in operation ? operation.integrityPrefix : null;
  return (
    data.length <= cellLimits.dataBytesMax &&
    operation.gcmAad.length <= cellLimits.gcmAadBytesMax &&
    (prefix === null || prefix.length <= cellLimits.integrityPrefixBytesMax)
  );
}

/** Whether a key can be named in a cell; a bug in what pinned it otherwise. */
export function isKeyWellFormed(key: KeyObject): boolean {
  const id = key.objectId;
  const witness = key.witness;
  return (
    id.length > 0 &&
    id.length % 2 === 0 &&
    id.length <= 2 * cellLimits.objectIdBytesMax &&
    (witness === null ||
      (witness.iv.length === 12 &&
        witness.tag.length === tagBytes &&
        witness.ciphertext.length > 0 &&
        witness.ciphertext.length <= cellLimits.witnessCiphertextBytesMax))
  );
}

/** Whether IV and tag have lengths that a decrypt can have (X-D1). */
export function isSealWellFormed(operation: DecryptOperation): boolean {
  return (
    (operation.iv.length === 12 || operation.iv.length === ivBytesMax) && operation.tag.length === tagBytes
  );
}

const packed = (generation: number, value: number): number => ((generation << stateBits) | value) >>> 0;

const next = (generation: number): number => (generation + 1) & generationMask;
