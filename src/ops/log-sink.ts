import { constants, fstatSync, openSync, write, writeSync } from 'node:fs';
import type { NativeBinding } from '../base/native.js';

/** What is buffered while the reader of the log stands still: some 20,000 lines. Beyond it lines are dropped. */
export const logBufferBytesMax = 8 * 1024 * 1024;
/** Lines wait so long for company: a wake-up, a write and a reader's wake-up cost more than a line does. */
const batchDelayMs = 20;
/** A full pipe is tried again after so long. */
const retryDelayMs = 20;
/** Bytes per write: what a Linux pipe takes at once. */
const writeBytesMax = 64 * 1024;
/** How long a process that ends waits for the reader of its log. */
const flushMs = 500;

interface LogSinkOptions {
  readonly fd: number;
  readonly bufferBytesMax: number;
  /** Words the record that stands where `dropped` lines are missing. */
  readonly gapLine: (dropped: number) => string;
}

/**
 * Writes lines to a descriptor without ever waiting for its reader. Pipes and sockets are made non-blocking, so that
 * neither the event loop nor a thread that process.exit() would join hangs on them; files are written by libuv's
 * threads. When the buffer is full, new lines are dropped and counted, and a gap record follows in their place.
 */
export class LogSink {
  readonly #fd: number;
  readonly #nonBlocking: boolean;
  readonly #options: LogSinkOptions;
  readonly #lines: string[] = [];
  /** UTF-8 bytes, at least, in `#lines`. */
  #queuedBytes = 0;
  /** Taken from the queue, not yet written as a whole. */
  #chunk: Buffer | null = null;
  #scheduled = false;
  #writing = false;
  #droppedSinceGap = 0;
  #dropped = 0;

  constructor(native: NativeBinding, options: LogSinkOptions) {
    this.#options = options;
    const opened = withoutWaiting(native, options.fd);
    this.#fd = opened.fd;
    this.#nonBlocking = opened.nonBlocking;
  }

  /** Lines dropped since the start. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Takes a line that ends in a newline. */
  write(line: string): void {
    // Half empty before lines are taken again: one gap record per stall, not one per line that found room.
    const limit = this.#droppedSinceGap > 0 ? this.#options.bufferBytesMax / 2 : this.#options.bufferBytesMax;
    if (this.#queuedBytes + line.length > limit) {
      this.#droppedSinceGap++;
      this.#dropped++;
      return;
    }
    this.#closeGap();
    this.#push(line);
  }

  /** Writes what is buffered, for at most `flushMs`. For the end of the process. */
  flush(): void {
    const deadline = performance.now() + flushMs;
    const sleeper = new Int32Array(new SharedArrayBuffer(4));
    while (this.#nextChunk()) {
      if (this.#writeNow()) continue;
      if (performance.now() >= deadline) return;
      Atomics.wait(sleeper, 0, 0, retryDelayMs);
    }
  }

  #push(line: string): void {
    this.#lines.push(line);
    this.#queuedBytes += line.length;
    this.#schedule(batchDelayMs);
  }

  #closeGap(): void {
    if (this.#droppedSinceGap === 0) return;
    const dropped = this.#droppedSinceGap;
    this.#droppedSinceGap = 0;
    this.#push(this.#options.gapLine(dropped));
  }

  #schedule(delayMs: number): void {
    if (this.#scheduled || this.#writing) return;
    this.#scheduled = true;
    const timer = setTimeout(() => {
      this.#scheduled = false;
      this.#drain();
    }, delayMs);
    // A reader that stands still keeps no process alive.
    if (delayMs === retryDelayMs) timer.unref();
  }

  #drain(): void {
    if (!this.#nonBlocking) {
      this.#writeInBackground();
      return;
    }
    while (this.#nextChunk()) {
      if (!this.#writeNow()) {
        this.#schedule(retryDelayMs);
        return;
      }
    }
  }

  /** Fills `#chunk` from the queue. False when there is nothing to write. */
  #nextChunk(): boolean {
    if (this.#chunk !== null) return true;
    if (this.#lines.length === 0) this.#closeGap();
    let count = 0;
    let bytes = 0;
    while (count < this.#lines.length && bytes < writeBytesMax) bytes += this.#lines[count++]?.length ?? 0;
    if (count === 0) return false;
    this.#chunk = Buffer.from(this.#lines.splice(0, count).join(''));
    this.#queuedBytes -= bytes;
    return true;
  }

  /** False when the reader takes no more now. */
  #writeNow(): boolean {
    if (this.#chunk === null) return true;
    try {
      this.#written(writeSync(this.#fd, this.#chunk));
      return true;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code === 'EAGAIN') return false;
      this.#failed();
      return true;
    }
  }

  #writeInBackground(): void {
    if (!this.#nextChunk() || this.#chunk === null) return;
    // Out of reach of flush(): the process joins libuv's threads before it ends, so this write happens.
    const chunk = this.#chunk;
    this.#chunk = null;
    this.#writing = true;
    write(this.#fd, chunk, (error, bytes) => {
      this.#writing = false;
      this.#chunk = chunk;
      if (error === null) this.#written(bytes);
      else this.#failed();
      this.#writeInBackground();
    });
  }

  #written(bytes: number): void {
    this.#chunk = this.#chunk === null || bytes >= this.#chunk.length ? null : this.#chunk.subarray(bytes);
  }

  /** The reader has gone or the disk is full: these lines are lost, and a log has nobody to tell. */
  #failed(): void {
    if (this.#chunk === null) return;
    for (const byte of this.#chunk) if (byte === 0x0a) this.#dropped++;
    this.#chunk = null;
  }
}

/** A descriptor for the same log on which a write never waits for a reader, where the kernel has one. */
function withoutWaiting(native: NativeBinding, fd: number): { fd: number; nonBlocking: boolean } {
  const stat = fstatSync(fd);
  if (stat.isFIFO()) {
    try {
      // An open file of our own: the flag does not show in processes that share the inherited one.
      const flags = constants.O_WRONLY | constants.O_NONBLOCK;
      return { fd: openSync(`/proc/self/fd/${fd}`, flags), nonBlocking: true };
    } catch {
      // Another user's pipe.
    }
  }
  if (stat.isFIFO() || stat.isSocket()) return { fd, nonBlocking: native.setNonBlocking(fd) === 0 };
  return { fd, nonBlocking: false };
}
