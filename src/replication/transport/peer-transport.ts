import { invariant } from '../../base/guards.js';
import { err, ok, type Result } from '../../base/result.js';
import type { Timers } from '../../base/timers.js';
import type { MemberId } from '../../raft/types.js';
import type { PeerAddress, PeerMessage } from '../peer-message.js';
import { TrustedAuthorities } from './certificate-trust.js';
import { encodeEnvelope } from './envelope-codec.js';
import * as wire from './generated/peer.js';
import { callDeadlineMsMax, callJsonBytesMax, certificatePollMs, outboundCallsMax } from './limits.js';
import { askForJson, type CallFailure } from './peer-call.js';
import {
  checkPeerTlsFiles,
  PeerChannelCredentials,
  type PeerTlsFiles,
  samePeerTlsFiles,
} from './peer-credentials.js';
import { PeerLink } from './peer-link.js';
import { type PeerGate, PeerServer, type PeerServerEvents } from './peer-server.js';
import type { Refusal } from './refusal.js';
import { type TransportCounters, TransportTally } from './transport-counters.js';

export type { PeerAddress } from '../peer-message.js';

/** All are called outside of the transport's own methods, `onMessage` for the messages of one stream in their order. */
export interface PeerTransportEvents extends PeerServerEvents {
  /** Messages to this member are being lost, for the reason given for the log. */
  onUnreachable(member: MemberId, detail: string): void;
  /** This member does not listen to us: repeated while it is so, at most once a second. */
  onRefused(member: MemberId, refusal: Refusal): void;
  onConnected(member: MemberId): void;
  /**
   * Certificates were reloaded, or (text) could not be: those in use stay. Also with a text when, some seconds after they
   * were reloaded, a member's old connection is still used because a new one can't be had.
   */
  onTlsReload(problem: string | null): void;
}

export interface PeerTransportOptions {
  readonly listen: { readonly address: string; readonly port: number };
  readonly gate: PeerGate;
  /** Of the messages sent: what all members read. */
  readonly format: () => number;
  /** Reads certificate, key and CAs; also called every few seconds to see whether they have changed. */
  readonly loadTls: () => Result<PeerTlsFiles, string>;
  readonly events: PeerTransportEvents;
  readonly timers: Timers;
}

export interface PeerTransportStats extends TransportCounters {
  readonly peers: readonly {
    readonly memberId: MemberId;
    /** Our stream to it is open, and is not one that follows a refusal and has yet to show that it listens. */
    readonly connected: boolean;
    readonly queuedMessages: number;
    readonly queuedBytes: number;
  }[];
  readonly inboundConnections: number;
  readonly inboundStreams: number;
}

export interface PeerTransport {
  /** Where it listens. */
  readonly port: number;
  /** Lossy; to nobody but the members last set. */
  send(to: MemberId, message: PeerMessage): void;
  /** Whom to connect to; ourselves among them or not. */
  setMembers(members: readonly PeerAddress[]): void;
  /** Asks one question; never rejects. JSON both ways, of 1 MiB at most. */
  call(to: MemberId, name: string, body: unknown, deadlineMs?: number): Promise<Result<unknown, CallFailure>>;
  /**
   * Reads the TLS files and, if they have changed, replaces every connection of ours by one made with them, and closes
   * others' whose certificate is no longer trusted after a while. The error says why the files in use stay.
   */
  reloadTls(): Result<'changed' | 'unchanged', string>;
  stats(): PeerTransportStats;
  close(): Promise<void>;
}

export interface PeerTransportFailure {
  /** What to change: the TLS files, or the address to listen on. */
  readonly message: string;
  /** Another process has the port, or the address is not there yet: a later try may do. */
  readonly transient: boolean;
}

export async function startPeerTransport(
  options: PeerTransportOptions,
): Promise<Result<PeerTransport, PeerTransportFailure>> {
  const files = usableTls(options.loadTls);
  if (!files.ok) return err({ message: files.error, transient: false });
  const tally = new TransportTally();
  const server = new PeerServer({
    gate: options.gate,
    events: options.events,
    tally,
    files: files.value,
    timers: options.timers,
  });
  const port = await server.listen(options.listen);
  if (!port.ok) {
    await server.close();
    return port;
  }
  return ok(new GrpcPeerTransport(options, files.value, tally, server, port.value));
}

function usableTls(load: () => Result<PeerTlsFiles, string>): Result<PeerTlsFiles, string> {
  const files = load();
  if (!files.ok) return files;
  const usable = checkPeerTlsFiles(files.value);
  return usable.ok ? files : usable;
}

interface Peer {
  readonly name: string;
  readonly link: PeerLink;
  /** Under way. */
  calls: number;
}

class GrpcPeerTransport implements PeerTransport {
  readonly port: number;
  readonly #options: PeerTransportOptions;
  readonly #tally: TransportTally;
  readonly #server: PeerServer;
  readonly #peers = new Map<MemberId, Peer>();
  /** No peers any more, and asked something before: the answer may be that they were removed. */
  readonly #leaving = new Set<Peer>();
  #files: PeerTlsFiles;
  #lastProblem: string | null = null;
  #calls = 0;
  #closed = false;
  #cancelPoll: () => void;

  constructor(
    options: PeerTransportOptions,
    files: PeerTlsFiles,
    tally: TransportTally,
    server: PeerServer,
    port: number,
  ) {
    this.port = port;
    this.#options = options;
    this.#files = files;
    this.#tally = tally;
    this.#server = server;
    this.#cancelPoll = this.#pollLater();
  }

  send(to: MemberId, message: PeerMessage): void {
    const { clusterId, memberId } = this.#options.gate;
    invariant(to !== memberId, 'a message to ourselves');
    const peer = this.#peers.get(to);
    if (this.#closed || peer === undefined) {
      this.#tally.dropped[message.kind] += 1;
      return;
    }
    const format = this.#options.format();
    peer.link.send(message.kind, encodeEnvelope({ format, clusterId, from: memberId, to, message }));
  }

  setMembers(members: readonly PeerAddress[]): void {
    if (this.#closed) return;
    const wanted = new Map(members.map((member) => [member.memberId, member]));
    wanted.delete(this.#options.gate.memberId);
    for (const [memberId, peer] of [...this.#peers]) {
      const member = wanted.get(memberId);
      if (member?.name === peer.name && member.address === peer.link.address) continue;
      this.#peers.delete(memberId);
      if (peer.calls === 0) peer.link.close();
      else this.#leaving.add(peer);
    }
    for (const member of wanted.values()) {
      if (!this.#peers.has(member.memberId)) this.#peers.set(member.memberId, this.#connect(member));
    }
  }

  #connect({ memberId, name, address }: PeerAddress): Peer {
    const { events, timers } = this.#options;
    /** Of one that is leaving nobody wants to hear. */
    const isPeer = (): boolean => this.#peers.get(memberId)?.link === link;
    const link = new PeerLink({
      address,
      credentials: new PeerChannelCredentials(this.#files, name),
      timers,
      tally: this.#tally,
      events: {
        onUnreachable: (detail) => void (isPeer() && events.onUnreachable(memberId, detail)),
        onRefused: (refusal) => void (isPeer() && events.onRefused(memberId, refusal)),
        onConnected: () => void (isPeer() && events.onConnected(memberId)),
        onRenewalTrouble: (detail) => {
          if (isPeer())
            events.onTlsReload(`no new connection to ${name} yet, its old one is used: ${detail}`);
        },
      },
    });
    return { name, link, calls: 0 };
  }

  async call(
    to: MemberId,
    name: string,
    body: unknown,
    deadlineMs = callDeadlineMsMax,
  ): Promise<Result<unknown, CallFailure>> {
    const notAsked = (detail: string) => err({ kind: 'not-asked', detail, refusal: null } as const);
    const { clusterId, memberId: from } = this.#options.gate;
    const peer = this.#peers.get(to);
    if (this.#closed || peer === undefined) return notAsked(`no member ${to} to ask`);
    const json = JSON.stringify(body ?? null);
    if (Buffer.byteLength(json) > callJsonBytesMax) {
      return notAsked(`the question has ${Buffer.byteLength(json)} bytes`);
    }
    // What waits for a peer that is not there may be sent when nobody expects it any more.
    if (peer.link.failed) return notAsked(`no connection to member ${to}`);
    if (this.#calls >= outboundCallsMax) return notAsked(`${outboundCallsMax} calls are under way`);
    this.#calls += 1;
    peer.calls += 1;
    const bytes = Buffer.from(wire.CallRequest.encode({ clusterId, from, to, name, json }).finish());
    const answered = await askForJson(peer.link.channel, 'call', bytes, deadlineMs);
    this.#calls -= 1;
    peer.calls -= 1;
    if (peer.calls === 0 && this.#leaving.delete(peer)) peer.link.close();
    return answered;
  }

  reloadTls(): Result<'changed' | 'unchanged', string> {
    const files = usableTls(this.#options.loadTls);
    if (!files.ok) return files;
    if (this.#closed || samePeerTlsFiles(files.value, this.#files)) return ok('unchanged');
    this.#files = files.value;
    this.#server.reload(files.value);
    const authorities = new TrustedAuthorities(files.value.ca);
    for (const { name, link } of this.#peers.values())
      link.renew(new PeerChannelCredentials(files.value, name), authorities);
    return ok('changed');
  }

  /** Files are compared by what is in them: cheap, and right for renames and symbolic links. */
  #pollLater(): () => void {
    return this.#options.timers.after(certificatePollMs, () => {
      const reloaded = this.reloadTls();
      const problem = reloaded.ok ? null : reloaded.error;
      if (problem !== this.#lastProblem || (reloaded.ok && reloaded.value === 'changed')) {
        this.#options.events.onTlsReload(problem);
      }
      this.#lastProblem = problem;
      this.#cancelPoll = this.#pollLater();
    });
  }

  stats(): PeerTransportStats {
    return {
      ...this.#tally.snapshot(),
      peers: [...this.#peers].map(([memberId, { link }]) => ({
        memberId,
        connected: link.connected,
        queuedMessages: link.queued.messages,
        queuedBytes: link.queued.bytes,
      })),
      inboundConnections: this.#server.connections,
      inboundStreams: this.#server.streams,
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelPoll();
    for (const { link } of [...this.#peers.values(), ...this.#leaving]) link.close();
    this.#peers.clear();
    this.#leaving.clear();
    await this.#server.close();
  }
}
