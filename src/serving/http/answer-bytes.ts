import { STATUS_CODES } from 'node:http';
import type { Clock } from '../../base/clock.js';
import type { HttpAnswer } from './exchange.js';
import type { HttpLimits } from './limits.js';

/** What an answer says of its connection: it ends, it is kept as those that are authentic, or as those that are not. */
export type ConnectionFate = 'close' | 'keep' | 'keep-stranger';

/**
 * HTTP/1.1 answers as bytes, where Node's HTTP server does not write them: the same fields in the same order and case,
 * so that no client can tell.
 */
export class AnswerBytes {
  readonly #clock: Clock;
  readonly #authenticSeconds: number;
  readonly #strangerSeconds: number;
  /** Since the epoch: what `#ends` were made in. */
  #second = Number.NaN;
  /** All that comes after `content-length`, with the empty line. */
  #ends: Readonly<Record<ConnectionFate, string>> = { close: '', keep: '', 'keep-stranger': '' };

  constructor(clock: Clock, { keepAliveMs, strangerKeepAliveMs }: HttpLimits) {
    this.#clock = clock;
    this.#authenticSeconds = Math.floor(keepAliveMs / 1_000);
    this.#strangerSeconds = Math.floor(Math.min(keepAliveMs, strangerKeepAliveMs) / 1_000);
  }

  /** Head and body in one. It is a copy: a body that is to be wiped can be. */
  of({ status, headers, body }: HttpAnswer, fate: ConnectionFate): Buffer {
    let head = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n`;
    if (headers !== undefined) {
      for (const name in headers) head += `${name}: ${headers[name]}\r\n`;
    }
    head += `content-type: application/json\r\ncontent-length: ${body.byteLength}\r\n${this.#endsOfNow()[fate]}`;
    const bytes = Buffer.allocUnsafe(head.length + body.byteLength);
    bytes.write(head, 'latin1');
    bytes.set(body, head.length);
    return bytes;
  }

  #endsOfNow(): Readonly<Record<ConnectionFate, string>> {
    const second = Math.floor(this.#clock.wallMs() / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      const date = `Date: ${new Date(second * 1_000).toUTCString()}\r\n`;
      this.#ends = {
        close: `connection: close\r\n${date}\r\n`,
        keep: `${date}Connection: keep-alive\r\nKeep-Alive: timeout=${this.#authenticSeconds}\r\n\r\n`,
        'keep-stranger': `connection: keep-alive\r\nkeep-alive: timeout=${this.#strangerSeconds}\r\n${date}\r\n`,
      };
    }
    return this.#ends;
  }
}
