import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { KeyStateMachine } from '../../src/keystate/state-machine.js';
import {
  encodeIndexFrame,
  encodeJsonFrame,
  FrameDecoder,
  readFreshPayload,
  readIndexPayload,
  readJsonPayload,
} from '../../src/ops/frames.js';
import {
  type Frame,
  FrameType,
  type Hello,
  type HsmReply,
  type HsmRequest,
  type MetricsReport,
  type Standing,
  type TokenStatus,
} from '../../src/ops/state-link.js';

/** Of the supervisor that tests stand for. */
export const testNonce = 'nonce-of-the-test';

export type HsmScript = (request: HsmRequest) => HsmReply | null | Promise<HsmReply>;

export interface FakeServingOptions {
  readonly slot?: number;
  readonly processId?: string;
  readonly pid?: number;
  readonly linkedBefore?: boolean;
  readonly supervisorNonce?: string;
  readonly onHsmRequest?: HsmScript;
}

export const activeToken: TokenStatus = {
  uri: 'pkcs11:token=fake',
  label: 'fake',
  serial: '0001',
  manufacturer: 'fake',
  model: 'seam',
  firmware: '1.0',
  state: 'ACTIVE',
  reason: null,
  sessions: 1,
  stuckCells: 0,
};

export const readyReport: MetricsReport = {
  metrics: [],
  credentialLastUsedMs: {},
  readiness: { ready: true, reason: 'ready' },
  tokens: [activeToken],
};

/** The far end of the state link: speaks real frames and applies real commands, but has no HSM and serves nobody. */
export class FakeServingProcess {
  readonly machine = new KeyStateMachine();
  readonly hello: Hello;
  /** While set, entries are applied but not acknowledged. */
  silent = false;
  snapshots = 0;
  freshAsOfMs: number | null = null;
  standing: Standing | null = null;

  readonly #socket: Socket;
  readonly #options: FakeServingOptions;
  readonly #decoder = new FrameDecoder();
  #records: Uint8Array[] = [];
  readonly #watchers = new Set<() => void>();

  private constructor(socket: Socket, options: FakeServingOptions) {
    this.#socket = socket;
    this.#options = options;
    this.hello = {
      linkVersion: 1,
      pid: options.pid ?? process.pid,
      slot: options.slot ?? 1,
      supervisorNonce: options.supervisorNonce ?? testNonce,
      processId: options.processId ?? randomBytes(8).toString('hex'),
      startedAtMs: Date.now(),
      linkedBefore: options.linkedBefore ?? false,
      version: '0.0.0-fake',
    };
    socket.on('data', (chunk: Buffer) => {
      const frames = this.#decoder.push(chunk);
      if (!frames.ok) throw new Error(frames.error.message);
      for (const frame of frames.value) this.#handle(frame);
    });
    socket.on('error', () => {});
  }

  static async link(socketPath: string, options: FakeServingOptions = {}): Promise<FakeServingProcess> {
    const socket = connect(socketPath);
    await once(socket, 'connect');
    const serving = new FakeServingProcess(socket, options);
    socket.write(encodeJsonFrame(FrameType.hello, serving.hello));
    return serving;
  }

  get appliedIndex(): number {
    return this.machine.state.appliedIndex;
  }

  report(report: MetricsReport): void {
    this.#socket.write(encodeJsonFrame(FrameType.metrics, report));
  }

  acknowledge(index: number = this.appliedIndex): void {
    this.#socket.write(encodeIndexFrame(FrameType.applied, index));
  }

  reply(reply: HsmReply): void {
    this.#socket.write(encodeJsonFrame(FrameType.hsmReply, reply));
  }

  raw(bytes: Uint8Array): void {
    this.#socket.write(bytes);
  }

  /** Reads nothing any more, as a stopped process. */
  stopReading(): void {
    this.#socket.pause();
  }

  resumeReading(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.destroy();
  }

  get isClosed(): boolean {
    return this.#socket.closed;
  }

  async closed(): Promise<void> {
    if (!this.#socket.closed)
      await new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
  }

  /** Resolves once `condition` holds; looked at after every frame. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#watchers.add(resolve));
  }

  #handle({ type, payload }: Frame): void {
    switch (type) {
      case FrameType.snapshotBegin:
        this.#records = [];
        break;
      case FrameType.snapshotRecord:
        this.#records.push(payload);
        break;
      case FrameType.snapshotEnd: {
        const { index } = readIndexPayload(payload) ?? { index: -1 };
        this.machine.restore(index, this.#records);
        this.snapshots += 1;
        if (!this.silent) this.acknowledge();
        break;
      }
      case FrameType.entry: {
        const entry = readIndexPayload(payload);
        if (entry === null) throw new Error('malformed entry');
        // Both throw on a gap.
        if (entry.rest.byteLength === 0) this.machine.skip(entry.index);
        else this.machine.apply(entry.index, entry.rest);
        if (!this.silent) this.acknowledge();
        break;
      }
      case FrameType.fresh: {
        const fresh = readFreshPayload(payload);
        if (fresh === null) throw new Error('malformed freshness');
        this.freshAsOfMs = fresh.asOfMs;
        break;
      }
      case FrameType.standing:
        this.standing = readJsonPayload(payload) as unknown as Standing;
        break;
      case FrameType.hsmRequest: {
        const request = readJsonPayload(payload) as unknown as HsmRequest;
        const reply = this.#options.onHsmRequest?.(request) ?? null;
        if (reply instanceof Promise) void reply.then((late) => this.reply(late));
        else if (reply !== null) this.reply(reply);
        break;
      }
      default:
        throw new Error(`frame type ${type} does not go this way`);
    }
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const wake of watchers) wake();
  }
}
