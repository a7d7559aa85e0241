import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { type Dialer, dialerOf } from './dialer.js';

/** What may pass from one node to another, on whichever connection. */
interface Link {
  cut: boolean;
  delayMs: number;
}

/** Bytes held back for one direction before its source is no longer read: what a kernel would hold. */
const heldBytesMax = 1024 * 1024;
/** A connection may be reported before its owner shows in /proc. */
const dialerAttempts = 3;

/**
 * One direction of one connection. What is cut loses nothing: its bytes, and its end, wait, as TCP would have them
 * retransmitted until somebody gives up.
 */
class Stream {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #link: Link;
  readonly #held: { readonly bytes: Buffer; readonly dueMs: number }[] = [];
  #heldBytes = 0;
  #ended = false;
  #destroyed = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(source: Socket, sink: Socket, link: Link) {
    this.#source = source;
    this.#sink = sink;
    this.#link = link;
    source.on('data', (bytes: Buffer) => {
      this.#held.push({ bytes, dueMs: performance.now() + link.delayMs });
      this.#heldBytes += bytes.byteLength;
      this.pump();
    });
    source.on('end', () => {
      this.#ended = true;
      this.pump();
    });
    source.on('close', () => {
      this.#destroyed = true;
      this.pump();
    });
    source.on('error', () => {});
    sink.on('drain', () => this.pump());
  }

  /** Passes on what may go now; to be called when the link has changed. */
  pump(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const { cut } = this.#link;
    while (!cut && !this.#sink.writableNeedDrain) {
      const [next] = this.#held;
      const waitMs = (next?.dueMs ?? 0) - performance.now();
      if (next === undefined) break;
      if (waitMs > 0) {
        this.#timer = setTimeout(() => this.pump(), Math.ceil(waitMs));
        break;
      }
      this.#held.shift();
      this.#heldBytes -= next.bytes.byteLength;
      this.#sink.write(next.bytes);
    }
    if (cut || this.#heldBytes > heldBytesMax) this.#source.pause();
    else this.#source.resume();
    if (cut || this.#held.length > 0) return;
    if (this.#ended) this.#sink.end();
    if (this.#destroyed) this.#sink.destroy();
  }

  destroy(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#source.destroy();
    this.#sink.destroy();
  }
}

/** A TCP proxy before every node of a cluster, with a switch for every directed pair of nodes. */
export class LinkProxies {
  readonly #dialers: () => readonly Dialer[];
  readonly #links = new Map<string, Link>();
  readonly #streams = new Map<Link, Set<Stream>>();
  readonly #servers: Server[] = [];
  #closed = false;

  /** @param dialers the nodes as they run now. */
  constructor(dialers: () => readonly Dialer[]) {
    this.#dialers = dialers;
  }

  /** @returns the address that stands for `name`, which listens on `port`. */
  async listen(name: string, port: number): Promise<string> {
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (incoming) => {
      incoming.on('error', () => {});
      void this.#accept(name, port, incoming);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    this.#servers.push(server);
    return `127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** What `from` sends does not arrive at `to`; the other way all goes on. */
  cut(from: string, to: string): void {
    this.#change(from, to, (link) => {
      link.cut = true;
    });
  }

  /** Nodes in different groups do not hear each other; a node in none, and a node in two, hears all in its own. */
  partition(...groups: readonly (readonly string[])[]): void {
    const names = this.#dialers().map(({ name }) => name);
    const together = (left: string, right: string): boolean =>
      groups.some((group) => group.includes(left) && group.includes(right));
    for (const from of names) {
      for (const to of names) if (from !== to && !together(from, to)) this.cut(from, to);
    }
  }

  /** `name` hears nobody and nobody hears it. */
  isolate(name: string): void {
    const others = this.#dialers()
      .map((dialer) => dialer.name)
      .filter((other) => other !== name);
    this.partition([name], others);
  }

  delay(from: string, to: string, delayMs: number): void {
    this.#change(from, to, (link) => {
      link.delayMs = delayMs;
    });
  }

  heal(): void {
    for (const link of this.#links.values()) {
      link.cut = false;
      link.delayMs = 0;
      this.#pump(link);
    }
  }

  close(): void {
    this.#closed = true;
    for (const server of this.#servers) server.close();
    for (const streams of this.#streams.values()) for (const stream of streams) stream.destroy();
  }

  #link(from: string, to: string): Link {
    const key = `${from} ${to}`;
    const link = this.#links.get(key) ?? { cut: false, delayMs: 0 };
    this.#links.set(key, link);
    return link;
  }

  #change(from: string, to: string, change: (link: Link) => void): void {
    const link = this.#link(from, to);
    change(link);
    this.#pump(link);
  }

  #pump(link: Link): void {
    for (const stream of this.#streams.get(link) ?? []) stream.pump();
  }

  async #accept(target: string, port: number, incoming: Socket): Promise<void> {
    const { localPort = 0, remotePort = 0 } = incoming;
    let dialer: string | null = null;
    for (let attempt = 0; dialer === null && attempt < dialerAttempts; attempt += 1) {
      dialer = await dialerOf(this.#dialers(), localPort, remotePort);
    }
    if (dialer === null || this.#closed) {
      incoming.destroy();
      return;
    }
    const outgoing = connect({ host: '127.0.0.1', port, allowHalfOpen: true });
    outgoing.on('error', () => {});
    this.#pass(incoming, outgoing, this.#link(dialer, target));
    this.#pass(outgoing, incoming, this.#link(target, dialer));
  }

  #pass(source: Socket, sink: Socket, link: Link): void {
    const stream = new Stream(source, sink, link);
    const streams = this.#streams.get(link) ?? new Set();
    this.#streams.set(link, streams.add(stream));
    sink.once('close', () => streams.delete(stream));
    stream.pump();
  }
}
