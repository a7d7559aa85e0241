import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import { KeyState } from '../../src/keystate/key-state.js';
import { snapshotRecords } from '../../src/keystate/snapshot-codec.js';
import type { Command } from '../../src/keystate/types.js';
import { encodeFrame, encodeIndexFrame, FrameDecoder } from '../../src/ops/frames.js';
import { type Frame, FrameType } from '../../src/ops/state-link.js';
import type { BareCommand } from './pipeline-fixture.js';

/** One connection of a serving process, as the replica sees it. */
export class ReplicaLink {
  readonly socket: Socket;
  readonly #decoder = new FrameDecoder();
  readonly #frames: Frame[] = [];
  #wanted: (() => void) | null = null;
  #closed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      const frames = this.#decoder.push(chunk);
      if (frames.ok) this.#frames.push(...frames.value);
      this.#wanted?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#closed = true;
      this.#wanted?.();
    });
  }

  /** The next frame of this type; others before it are dropped. `null` when the link ended first. */
  async next(type: FrameType): Promise<Buffer | null> {
    for (;;) {
      const frame = this.#frames.shift();
      if (frame?.type === type) return frame.payload;
      if (frame !== undefined) continue;
      if (this.#closed) return null;
      await new Promise<void>((resolve) => {
        this.#wanted = resolve;
      });
    }
  }

  async nextJson(type: FrameType): Promise<Readonly<Record<string, unknown>>> {
    return JSON.parse((await this.next(type))?.toString('utf8') ?? 'null');
  }

  /** The index that the peer acknowledges next. */
  async acknowledged(): Promise<number | null> {
    const payload = await this.next(FrameType.applied);
    return payload === null ? null : Number(payload.readBigUInt64BE(0));
  }

  send(...frames: readonly Buffer[]): void {
    for (const frame of frames) this.socket.write(frame);
  }

  /** Byte by byte. */
  async sendTorn(bytes: Buffer): Promise<void> {
    for (const byte of bytes) {
      await new Promise<void>((resolve) => this.socket.write(Uint8Array.of(byte), () => resolve()));
    }
  }
}

/** A replica that says what a test tells it to. */
export class ScriptedReplica {
  readonly socketPath: string;
  readonly #links: ReplicaLink[] = [];
  #wanted: (() => void) | null = null;
  #server: Server | null = null;
  readonly #open = new Set<Socket>();

  constructor(t: Test) {
    const directory = mkdtempSync(join(tmpdir(), 'xksd-link-'));
    this.socketPath = join(directory, 'state.sock');
    t.teardown(async () => {
      await this.stop();
      rmSync(directory, { recursive: true, force: true });
    });
  }

  start(): Promise<void> {
    const server = createServer((socket) => {
      this.#open.add(socket);
      socket.on('close', () => this.#open.delete(socket));
      this.#links.push(new ReplicaLink(socket));
      this.#wanted?.();
    });
    this.#server = server;
    return new Promise((resolve) => server.listen(this.socketPath, resolve));
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    for (const socket of this.#open) socket.destroy();
    if (server !== null) await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  /** The next connection. */
  async link(): Promise<ReplicaLink> {
    for (;;) {
      const link = this.#links.shift();
      if (link !== undefined) return link;
      await new Promise<void>((resolve) => {
        this.#wanted = resolve;
      });
    }
  }
}

/** Key state with a history, and the frames that carry it. */
export class History {
  readonly state = new KeyState();

  /** @returns the entry's frame. */
  apply(command: BareCommand): Buffer {
    const index = this.state.appliedIndex + 1;
    // The spread of a union is no union to the compiler.
    const enveloped = { ...command, requestId: `r${index}`, atMs: 0, by: 'test' } as Command;
    const result = this.state.apply(index, enveloped);
    if (!result.ok) throw new Error(result.error.message);
    return encodeIndexFrame(FrameType.entry, index, encodeCommand(enveloped));
  }

  keyStore(name: string): Buffer {
    const regions = ['eu-central-1'];
    return this.apply({ type: 'keystore.create', name, uriPathPrefix: name, regions, adopted: false });
  }

  snapshot(): Buffer[] {
    const index = this.state.appliedIndex;
    return [
      encodeIndexFrame(FrameType.snapshotBegin, index),
      ...[...snapshotRecords(this.state)].map((record) => encodeFrame(FrameType.snapshotRecord, record)),
      encodeIndexFrame(FrameType.snapshotEnd, index),
    ];
  }
}
