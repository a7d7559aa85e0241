import { invariant, isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { type Frame, FrameType, frameBytesMax } from './state-link.js';

/** Bytes before the payload: `uint32be length of the rest ‖ uint8 type`. */
const headerBytes = 5;
const indexBytes = 8;

const knownTypes: ReadonlySet<number> = new Set(Object.values(FrameType));

const isFrameType = (type: number): type is FrameType => knownTypes.has(type);

/** What a peer sent that no peer of ours sends. The link is of no more use. */
export interface FrameError {
  readonly message: string;
}

/**
 * One frame as it goes onto the link.
 *
 * @param parts the payload, in pieces that follow each other.
 * @throws InvariantViolation when the frame were longer than `frameBytesMax`.
 */
export function encodeFrame(type: FrameType, ...parts: readonly Uint8Array[]): Buffer {
  const payloadBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
  return Buffer.concat([encodeFrameHeader(type, payloadBytes), ...parts], headerBytes + payloadBytes);
}

/** What a frame has before its payload, for a sender who copies many frames into one piece. @throws as `encodeFrame`. */
export function encodeFrameHeader(type: FrameType, payloadBytes: number): Buffer {
  invariant(payloadBytes + 1 <= frameBytesMax, `frame of ${payloadBytes} bytes exceeds ${frameBytesMax}`);
  const header = Buffer.allocUnsafe(headerBytes);
  header.writeUInt32BE(payloadBytes + 1, 0);
  header.writeUInt8(type, 4);
  return header;
}

/** A frame whose payload is `uint64 index`, and for entries the command after it. */
export function encodeIndexFrame(
  type: FrameType,
  index: number,
  rest: Uint8Array = new Uint8Array(0),
): Buffer {
  invariant(Number.isSafeInteger(index) && index >= 0, `index ${index}`);
  const head = Buffer.alloc(indexBytes);
  head.writeBigUInt64BE(BigInt(index));
  return encodeFrame(type, head, rest);
}

/** A `fresh` frame; `asOfMs` in whole milliseconds of the boot clock, rounded down: never fresher than it was. */
export function encodeFreshFrame(asOfMs: number, index: number): Buffer {
  const rest = Buffer.alloc(indexBytes);
  rest.writeBigUInt64BE(BigInt(index));
  return encodeIndexFrame(FrameType.fresh, Math.floor(asOfMs), rest);
}

/** What a `fresh` frame says; `null` when it is malformed. */
export function readFreshPayload(
  payload: Buffer,
): { readonly asOfMs: number; readonly index: number } | null {
  const asOf = readIndexPayload(payload);
  const at = asOf === null ? null : readIndexPayload(asOf.rest);
  return asOf === null || at === null || at.rest.byteLength > 0
    ? null
    : { asOfMs: asOf.index, index: at.index };
}

/** A frame whose payload is JSON. */
export function encodeJsonFrame(type: FrameType, value: object): Buffer {
  return encodeFrame(type, Buffer.from(JSON.stringify(value), 'utf8'));
}

/** The index at the start of a payload, and a view of what follows it; `null` when it is not one. */
export function readIndexPayload(payload: Buffer): { readonly index: number; readonly rest: Buffer } | null {
  if (payload.byteLength < indexBytes) return null;
  const index = Number(payload.readBigUInt64BE(0));
  return Number.isSafeInteger(index) ? { index, rest: payload.subarray(indexBytes) } : null;
}

/** A payload that must be a JSON object; `null` when it is not one. */
export function readJsonPayload(payload: Buffer): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(payload.toString('utf8'));
    return isJsonObject(value) ? value : null;
  } catch {
    return null;
  }
}

/**
 * Cuts a byte stream into frames, however the stream was split. Holds at most one unfinished frame, so at most
 * `frameBytesMax` and one chunk; copies each byte once. After an error it takes nothing more.
 */
export class FrameDecoder {
  readonly #header = Buffer.alloc(headerBytes);
  #headerFilled = 0;
  /** The payload being filled, and its type; `null` between frames. */
  #pending: { readonly type: FrameType; readonly payload: Buffer; filled: number } | null = null;
  #failure: FrameError | null = null;

  /** The frames that `chunk` completes, in order. Their payloads are the caller's. */
  push(chunk: Uint8Array): Result<readonly Frame[], FrameError> {
    if (this.#failure !== null) return err(this.#failure);
    const frames: Frame[] = [];
    let rest = chunk;
    for (;;) {
      if (this.#pending === null) {
        rest = this.#fillHeader(rest);
        if (this.#headerFilled < headerBytes) return ok(frames);
        this.#failure = this.#startFrame();
        if (this.#failure !== null) return err(this.#failure);
      }
      rest = this.#fillPayload(rest);
      const completed = this.#takeCompleted();
      if (completed === null) return ok(frames);
      frames.push(completed);
    }
  }

  /** Returns what of `bytes` the header did not need. */
  #fillHeader(bytes: Uint8Array): Uint8Array {
    const taken = bytes.subarray(0, headerBytes - this.#headerFilled);
    this.#header.set(taken, this.#headerFilled);
    this.#headerFilled += taken.byteLength;
    return bytes.subarray(taken.byteLength);
  }

  /** Returns what of `bytes` the payload did not need. */
  #fillPayload(bytes: Uint8Array): Uint8Array {
    const pending = this.#pending;
    if (pending === null) return bytes;
    const taken = bytes.subarray(0, pending.payload.byteLength - pending.filled);
    pending.payload.set(taken, pending.filled);
    pending.filled += taken.byteLength;
    return bytes.subarray(taken.byteLength);
  }

  #takeCompleted(): Frame | null {
    const pending = this.#pending;
    if (pending === null || pending.filled < pending.payload.byteLength) return null;
    this.#pending = null;
    this.#headerFilled = 0;
    return { type: pending.type, payload: pending.payload };
  }

  #startFrame(): FrameError | null {
    const length = this.#header.readUInt32BE(0);
    if (length < 1 || length > frameBytesMax) {
      return { message: `frame length ${length} is not within 1–${frameBytesMax}` };
    }
    const type = this.#header.readUInt8(4);
    if (!isFrameType(type)) return { message: `unknown frame type ${type}` };
    this.#pending = { type, payload: Buffer.alloc(length - 1), filled: 0 };
    return null;
  }
}
