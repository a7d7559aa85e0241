/** RFC 9113 §6: the frames that a client of this kind meets. */
export const frameType = {
  data: 0,
  headers: 1,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { ack: 1, endStream: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

export const frameHeaderBytes = 9;
/** Without another SETTINGS_MAX_FRAME_SIZE (§4.2). */
const frameBytesMax = 16_384;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  /** A view of received memory. */
  readonly payload: Buffer;
}

/** The frames of a connection, out of whatever pieces arrive. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0);

  push(chunk: Buffer): readonly Frame[] {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    const frames: Frame[] = [];
    let at = 0;
    while (this.#rest.length >= at + frameHeaderBytes) {
      const end = at + frameHeaderBytes + this.#rest.readUIntBE(at, 3);
      if (this.#rest.length < end) break;
      frames.push({
        type: this.#rest.readUInt8(at + 3),
        flags: this.#rest.readUInt8(at + 4),
        streamId: this.#rest.readUInt32BE(at + 5) & 0x7fff_ffff,
        payload: this.#rest.subarray(at + frameHeaderBytes, end),
      });
      at = end;
    }
    this.#rest = this.#rest.subarray(at);
    return frames;
  }
}

export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(frameHeaderBytes + payload.byteLength);
  bytes.writeUIntBE(payload.byteLength, 0, 3);
  bytes.writeUInt8(type, 3);
  bytes.writeUInt8(flags, 4);
  bytes.writeUInt32BE(streamId, 5);
  bytes.set(payload, frameHeaderBytes);
  return bytes;
}

/** HEADERS and DATA of a request, for stream 0: `onStream` gives them a real one. Header fields fit one frame. */
export function requestFrames(fields: readonly (readonly [string, string])[], body: Uint8Array): Buffer {
  const frames = [frame(frameType.headers, flag.endHeaders, 0, literalHeaders(fields))];
  for (let at = 0; at === 0 || at < body.length; at += frameBytesMax) {
    const last = at + frameBytesMax >= body.length;
    frames.push(frame(frameType.data, last ? flag.endStream : 0, 0, body.subarray(at, at + frameBytesMax)));
  }
  return Buffer.concat(frames);
}

/** A copy of `requestFrames` for a stream. */
export function onStream(frames: Buffer, streamId: number): Buffer {
  const copy = Buffer.from(frames);
  for (let at = 0; at < copy.length; at += frameHeaderBytes + copy.readUIntBE(at, 3)) {
    copy.writeUInt32BE(streamId, at + 5);
  }
  return copy;
}

/** Literals without indexing, not Huffman coded (RFC 7541 §6.2.2): the server keeps no table for them. */
function literalHeaders(fields: readonly (readonly [string, string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]));
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, 'latin1');
  return Buffer.concat([prefixedInteger(bytes.length), bytes]);
}

/** RFC 7541 §5.1 with a prefix of seven bits. */
function prefixedInteger(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const octets = [127];
  let rest = value - 127;
  for (; rest >= 128; rest = Math.floor(rest / 128)) octets.push((rest % 128) + 128);
  return Buffer.from([...octets, rest]);
}

const staticStatuses: Readonly<Record<number, number>> = {
  8: 200,
  9: 204,
  10: 206,
  11: 304,
  12: 400,
  13: 404,
  14: 500,
};
/** Of the digits, RFC 7541 appendix B: five bits for 0, 1 and 2, six for the others. */
const huffmanDigits: Readonly<Record<string, string>> = {
  '00000': '0',
  '00001': '1',
  '00010': '2',
  '011001': '3',
  '011010': '4',
  '011011': '5',
  '011100': '6',
  '011101': '7',
  '011110': '8',
  '011111': '9',
};

/**
 * `:status` of a header block, which begins with it (RFC 9113 §8.3). Needs SETTINGS_HEADER_TABLE_SIZE 0, so that only
 * the static table can be meant. @returns 0 when it can't be read.
 */
export function statusOf(block: Buffer): number {
  let at = 0;
  // Dynamic table size updates (RFC 7541 §6.3) may come first.
  while (((block[at] ?? 0) & 0xe0) === 0x20) {
    const continues = ((block[at] ?? 0) & 0x1f) === 0x1f;
    at += 1;
    if (!continues) continue;
    while (((block[at] ?? 0) & 0x80) !== 0) at += 1;
    at += 1;
  }
  const first = block[at] ?? 0;
  if ((first & 0x80) !== 0) return staticStatuses[first & 0x7f] ?? 0;
  // A literal value under the static name: with indexing (6 bits), without or never indexed (4 bits).
  const nameIndex = (first & 0xc0) === 0x40 ? first & 0x3f : first & 0x0f;
  if (nameIndex < 8 || nameIndex > 14) return 0;
  const lengthOctet = block[at + 1] ?? 0;
  const value = block.subarray(at + 2, at + 2 + (lengthOctet & 0x7f));
  const digits = (lengthOctet & 0x80) === 0 ? value.toString('latin1') : huffmanText(value);
  return /^[1-5]\d\d$/.test(digits) ? Number(digits) : 0;
}

function huffmanText(bytes: Buffer): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  let text = '';
  for (let at = 0; text.length < 3; ) {
    const five = huffmanDigits[bits.slice(at, at + 5)];
    const digit = five ?? huffmanDigits[bits.slice(at, at + 6)];
    if (digit === undefined) return '';
    text += digit;
    at += five === undefined ? 6 : 5;
  }
  return text;
}

/** SETTINGS as identifiers and values (§6.5.1). */
export function readSettings(payload: Buffer): ReadonlyMap<number, number> {
  const settings = new Map<number, number>();
  for (let at = 0; at + 6 <= payload.length; at += 6) {
    settings.set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
  }
  return settings;
}

export function settingsFrame(settings: readonly (readonly [identifier: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(6 * settings.length);
  for (const [index, [identifier, value]] of settings.entries()) {
    payload.writeUInt16BE(identifier, 6 * index);
    payload.writeUInt32BE(value, 6 * index + 2);
  }
  return frame(frameType.settings, 0, 0, payload);
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(increment);
  return frame(frameType.windowUpdate, 0, streamId, payload);
}

/** What of a HEADERS or DATA frame is content (§6.1, §6.2: padding and priority). */
export function content({ type, flags, payload }: Frame): Buffer {
  const padded = (flags & flag.padded) !== 0;
  const padding = padded ? (payload[0] ?? 0) : 0;
  const priority = type === frameType.headers && (flags & flag.priority) !== 0 ? 5 : 0;
  return payload.subarray((padded ? 1 : 0) + priority, payload.length - padding);
}
