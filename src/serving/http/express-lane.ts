import type { TLSSocket } from 'node:tls';
import { wipe } from '../../base/bytes.js';
import type { ConnectionFate } from './answer-bytes.js';
import type { Connection } from './connection.js';
import type { HttpAnswer } from './exchange.js';
import { farewell } from './farewell.js';
import type { Front } from './front.js';
import { type PlainHead, readPlainHead } from './plain-request.js';
import { bodyShare } from './receiving-budget.js';
import { refusal } from './refusal.js';
import { type RequestHead, receivedRequest } from './request-head.js';

/** What a request may come in here: many clients send head and body apart. */
const piecesMax = 4;
/** So much longer than promised an authentic connection is kept, as Node does: a request may be on its way. */
const keepAliveMarginMs = 1_000;

type Phase =
  /** A request, or the rest of one, is to come. */
  | 'reading'
  /** The handler works on it. */
  | 'answering'
  /** The answer is being written. */
  | 'writing'
  /** Closed, closing, or Node's. */
  | 'left';

/** What a connection has brought that nobody has answered. */
export interface Received {
  readonly bytes: Buffer;
  /** Monotonic milliseconds at which the last of them had arrived. */
  readonly atMs: number;
  /** The peer's side has ended since. */
  readonly ended: boolean;
}

/** Where a connection goes that carries anything unusual: `Http1`. */
export interface OrdinaryLane {
  take(connection: Connection, received: Received): void;
}

/**
 * HTTP/1.1 as KMS speaks it: one plain request after the other, each there at once or nearly so. Node's HTTP server
 * takes more time for such a request than reading it, and makes objects, streams and timers for whatever else it might
 * turn out to be. Here it is read in one pass and answered in one write; the first bytes that are anything else go to
 * Node's server, with the connection and for the rest of its life. So nothing is judged here but what is beyond doubt.
 */
export class ExpressLane {
  readonly #connection: Connection;
  readonly #socket: TLSSocket;
  readonly #front: Front;
  readonly #ordinary: OrdinaryLane;
  #phase: Phase = 'reading';
  /** The beginning of a request, when it came, its head where that is complete, and in how many pieces it came. */
  #held: Buffer | null = null;
  #heldAtMs = 0;
  #heldHead: PlainHead | null = null;
  #heldPieces = 0;
  /** What came before its turn, and when. */
  #early: Buffer | null = null;
  #earlyAtMs = 0;
  /** The answer that is being written, where it is secret. */
  #secret: Buffer | null = null;
  #writingSinceMs = 0;
  /** The answer is the last one. */
  #closing = false;
  /** The peer's side has ended. */
  #ended = false;
  #watch: NodeJS.Timeout | undefined;
  /** Runs on when the rest has come: a timer is set once and then only put off. */
  #restTimer: NodeJS.Timeout | undefined;

  constructor(connection: Connection, front: Front, ordinary: OrdinaryLane) {
    this.#connection = connection;
    this.#socket = connection.socket;
    this.#front = front;
    this.#ordinary = ordinary;
  }

  start(): void {
    this.#connection.closePolitely = () => this.#closePolitely();
    this.#socket.on('data', this.#onData);
    this.#socket.once('end', this.#onEnd);
    this.#socket.once('close', this.#onClose);
    this.#watch = setTimeout(this.#look, this.#watchMs);
  }

  readonly #onData = (bytes: Buffer): void => {
    const receivedAtMs = this.#front.arrivals.arrivedAtMs();
    if (this.#phase === 'reading') this.#read(bytes, receivedAtMs);
    else if (this.#closing) wipe(bytes);
    else {
      // Pipelined (RFC 9112 §9.3.2): its turn comes after the answer.
      this.#socket.pause();
      this.#early = bytes;
      this.#earlyAtMs = receivedAtMs;
    }
  };

  #read(bytes: Buffer, receivedAtMs: number): void {
    const held = this.#held;
    if (held !== null) {
      const head = this.#heldHead;
      if (head !== null && held.length === head.headBytes && bytes.length === head.bodyBytes) {
        this.#letGo();
        this.#ask(head.head, bytes, receivedAtMs);
        return;
      }
      const both = Buffer.concat([held, bytes]);
      wipe(held);
      wipe(bytes);
      this.#judge(both, receivedAtMs);
    } else this.#judge(bytes, receivedAtMs);
  }

  /** `bytes` are all that came of a request so far. */
  #judge(bytes: Buffer, receivedAtMs: number): void {
    const plain = readPlainHead(bytes, this.#front.limits);
    if (plain === 'not-plain') this.#leave(bytes, receivedAtMs);
    else if (plain === 'incomplete') this.#hold(bytes, receivedAtMs, null);
    else {
      const missing = plain.headBytes + plain.bodyBytes - bytes.length;
      if (missing === 0) {
        this.#letGo();
        this.#ask(plain.head, bytes.subarray(plain.headBytes), receivedAtMs);
      } else if (missing > 0) this.#hold(bytes, receivedAtMs, plain);
      else this.#leave(bytes, receivedAtMs);
    }
  }

  #hold(bytes: Buffer, receivedAtMs: number, head: PlainHead | null): void {
    this.#held = bytes;
    this.#heldAtMs = receivedAtMs;
    this.#heldHead = head;
    // An unfinished head is within `headerBytesMax`, and no more counted than what Node's parser holds of one.
    const isRoom = head === null || this.#front.budget.hold(this.#share, bytes.buffer.byteLength);
    if (!isRoom || this.#heldPieces + 1 >= piecesMax) {
      this.#leave(bytes, receivedAtMs);
      return;
    }
    if (this.#restTimer === undefined)
      this.#restTimer = setTimeout(this.#onRestLate, this.#front.limits.restWaitMs);
    else if (this.#heldPieces === 0) this.#restTimer.refresh();
    this.#heldPieces += 1;
  }

  #letGo(): void {
    if (this.#heldHead !== null) this.#front.budget.release(this.#share);
    this.#held = null;
    this.#heldHead = null;
    this.#heldPieces = 0;
  }

  readonly #onRestLate = (): void => {
    if (this.#held !== null) this.#leave(this.#held, this.#heldAtMs);
  };

  readonly #share = bodyShare(() => {
    if (this.#held !== null) wipe(this.#held);
    const answer = this.#front.refuse(refusal.noRoom, this.#connection);
    this.#finish(this.#front.answerBytes.of(answer, 'close'));
  });

  #ask(head: RequestHead, body: Buffer, receivedAtMs: number): void {
    const { remoteAddress } = this.#connection;
    this.#phase = 'answering';
    this.#connection.begin();
    void this.#front.answer(receivedRequest(head, body, receivedAtMs, remoteAddress)).then(this.#onAnswer);
  }

  readonly #onAnswer = (answer: HttpAnswer): void => {
    const connection = this.#connection;
    if (answer.authenticated) connection.authenticate();
    if (this.#phase !== 'answering' || this.#socket.destroyed) {
      if (answer.secret) wipe(answer.body);
      return;
    }
    if (this.#front.mustClose(connection)) this.#closing = true;
    let fate: ConnectionFate = connection.authenticated ? 'keep' : 'keep-stranger';
    if (this.#closing) fate = 'close';
    const bytes = this.#front.answerBytes.of(answer, fate);
    if (answer.secret) {
      wipe(answer.body);
      this.#secret = bytes;
    }
    this.#phase = 'writing';
    this.#writingSinceMs = this.#front.clock.monotonicMs();
    this.#socket.write(bytes, this.#onWritten);
  };

  readonly #onWritten = (error?: Error | null): void => {
    // A write that fails ends in 'close'.
    if (error || this.#phase !== 'writing') return;
    this.#answered();
    this.#phase = 'reading';
    const early = this.#early;
    if (this.#closing || (this.#ended && early === null)) this.#finish(null);
    else if (early !== null) {
      this.#early = null;
      // Whatever is behind it comes after it.
      this.#socket.resume();
      this.#read(early, this.#earlyAtMs);
    }
  };

  #answered(): void {
    if (this.#secret !== null) wipe(this.#secret);
    this.#secret = null;
    this.#connection.end();
  }

  readonly #onEnd = (): void => {
    this.#ended = true;
    // A client may close its side after its last request and still read (RFC 9112 §9.6).
    if (this.#phase !== 'reading') return;
    if (this.#held === null) this.#finish(null);
    else this.#leave(this.#held, this.#heldAtMs);
  };

  readonly #onClose = (): void => {
    const { held, phase } = { held: this.#held, phase: this.#phase };
    if (held !== null) wipe(held);
    this.#stop();
    if (phase === 'answering' || phase === 'writing') this.#answered();
  };

  #closePolitely(): void {
    if (this.#held !== null) {
      this.#leave(this.#held, this.#heldAtMs);
      this.#connection.closePolitely();
    } else if (this.#phase === 'reading') this.#finish(null);
    else this.#closing = true;
  }

  /** Gives the connection to Node's server, with the `bytes` that it did not see. */
  #leave(bytes: Buffer, atMs: number): void {
    this.#stop();
    this.#ordinary.take(this.#connection, { bytes, atMs, ended: this.#ended });
  }

  #finish(lastWords: Buffer | null): void {
    this.#stop();
    farewell(this.#socket, lastWords, this.#front.limits.lingerMs);
  }

  #stop(): void {
    this.#letGo();
    if (this.#early !== null) wipe(this.#early);
    this.#early = null;
    this.#phase = 'left';
    clearTimeout(this.#watch);
    clearTimeout(this.#restTimer);
    this.#socket.off('data', this.#onData);
    this.#socket.off('end', this.#onEnd);
    this.#socket.off('close', this.#onClose);
  }

  /** So often that whatever has a limit is seen in time to be waited for exactly. */
  get #watchMs(): number {
    const { headersTimeoutMs, keepAliveMs, strangerKeepAliveMs, answerTimeoutMs } = this.#front.limits;
    return Math.min(headersTimeoutMs, keepAliveMs, strangerKeepAliveMs, answerTimeoutMs);
  }

  readonly #look = (): void => {
    const leftMs = this.#leftMs();
    if (leftMs > 0) this.#watch = setTimeout(this.#look, Math.min(Math.ceil(leftMs), this.#watchMs));
    else if (this.#phase === 'writing') this.#socket.destroy();
    else this.#finish(null);
  };

  /** Until the connection is to be closed if nothing happens; not positive: now. */
  #leftMs(): number {
    const connection = this.#connection;
    const { limits, clock } = this.#front;
    if (this.#phase === 'writing') return this.#writingSinceMs + limits.answerTimeoutMs - clock.monotonicMs();
    if (this.#phase !== 'reading' || this.#held !== null) return Number.POSITIVE_INFINITY;
    if (connection.requests === 0) return limits.headersTimeoutMs - connection.idleMs;
    const marginMs = connection.authenticated ? keepAliveMarginMs : 0;
    return connection.keepAliveMs + marginMs - connection.idleMs;
  }
}
