import type { PeerMessage } from '../peer-message.js';

export interface OutboundMessage {
  readonly kind: PeerMessage['kind'];
  readonly bytes: Buffer;
}

/** What waits for one peer, oldest first; bounded by number and bytes, those being written included. */
export class OutboundQueue {
  readonly #messagesMax: number;
  readonly #bytesMax: number;
  readonly #waiting: OutboundMessage[] = [];
  #messages = 0;
  #bytes = 0;

  constructor(messagesMax: number, bytesMax: number) {
    this.#messagesMax = messagesMax;
    this.#bytesMax = bytesMax;
  }

  /** Taken and not yet released. */
  get messages(): number {
    return this.#messages;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** False: there is no room. */
  push(message: OutboundMessage): boolean {
    const bytes = this.#bytes + message.bytes.byteLength;
    if (this.#messages >= this.#messagesMax || bytes > this.#bytesMax) return false;
    this.#messages += 1;
    this.#bytes = bytes;
    this.#waiting.push(message);
    return true;
  }

  /** The oldest; it counts until `release`. */
  shift(): OutboundMessage | undefined {
    return this.#waiting.shift();
  }

  release(message: OutboundMessage): void {
    this.#messages -= 1;
    this.#bytes -= message.bytes.byteLength;
  }

  /** Empties it; what was being written needs no release any more. Returns those that never were. */
  clear(): readonly OutboundMessage[] {
    this.#messages = 0;
    this.#bytes = 0;
    return this.#waiting.splice(0);
  }
}
