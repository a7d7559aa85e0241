import type { Logger } from '../base/logger.js';
import { err, ok, type Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { ClusterConfig } from '../ops/config.js';
import type { Identity } from '../replication/identity-file.js';
import type { NodeReport, PeerMessage } from '../replication/peer-message.js';
import type { PeerInbox, PeerTransport } from '../replication/peer-transport.js';
import { requestJoin } from '../replication/transport/join-request.js';
import type { PeerTlsFiles } from '../replication/transport/peer-credentials.js';
import type { JoinRequest } from '../replication/transport/peer-server.js';
import {
  type PeerTransport as GrpcTransport,
  type PeerTransportFailure,
  type PeerTransportStats,
  startPeerTransport,
} from '../replication/transport/peer-transport.js';
import type { Refusal } from '../replication/transport/refusal.js';
import type { AdminError } from './admin-error.js';
import { membersOf, PeerDirectory } from './peer-directory.js';

/** Formats of peer messages that this build reads and writes. */
export const peerFormats = { min: 1, max: 1 } as const;

const joinDeadlineMs = 8_000;

/** Who takes what other members send; bound once the log is open. */
export interface PeerHandlers {
  readonly inbox: PeerInbox;
  /** Its value is the answer; an error is told to the node that asked. */
  readonly onJoin: (request: JoinRequest) => Promise<Result<unknown, string>>;
  readonly onCall: (from: string, command: string, body: unknown) => Promise<Result<unknown, AdminError>>;
  /** A member does not listen to this node. `by`: its id, or its name while this node knows no members yet. */
  readonly onRefused: (by: string, refusal: Refusal) => void;
}

export interface ClusterPeersOptions {
  readonly config: ClusterConfig;
  readonly identity: Identity;
  readonly state: () => KeyStateQueries;
  readonly loadTls: () => Result<PeerTlsFiles & { readonly notAfterMs: number }, string>;
  readonly timers: Timers;
  readonly logger: Logger;
}

/** The other members: the way to them, and theirs to us. */
export class ClusterPeers {
  readonly #options: ClusterPeersOptions;
  readonly #directory: PeerDirectory;
  readonly #grpc: GrpcTransport;
  #handlers: PeerHandlers | null = null;
  #addresses = '';

  private constructor(options: ClusterPeersOptions, directory: PeerDirectory, grpc: GrpcTransport) {
    this.#options = options;
    this.#directory = directory;
    this.#grpc = grpc;
  }

  static async start(options: ClusterPeersOptions): Promise<Result<ClusterPeers, PeerTransportFailure>> {
    const { config, identity, state, timers, logger } = options;
    const directory = new PeerDirectory(state);
    const nameOf = (memberId: string): string => state().member(memberId)?.name ?? memberId;
    let peers: ClusterPeers | null = null;
    const handlers = (): PeerHandlers | null => (peers === null ? null : peers.#handlers);
    const grpc = await startPeerTransport({
      listen: config.listen,
      gate: {
        clusterId: identity.clusterId,
        memberId: identity.memberId,
        formatMin: peerFormats.min,
        formatMax: peerFormats.max,
        authorize: (from, names) => directory.authorize(from, names),
      },
      format: () => peerFormats.max,
      loadTls: () => options.loadTls(),
      timers,
      events: {
        onMessage: (from, message) => {
          if (message.kind === 'report') peers?.reported(from, message.report);
          handlers()?.inbox.receive(from, message);
        },
        onJoin: async (request) =>
          answered((await handlers()?.onJoin(request)) ?? err('this node is starting')),
        onCall: async (from, name, body) =>
          (await handlers()?.onCall(from, name, body)) ?? Promise.reject(new Error('this node is starting')),
        onUnreachable: (member, reason) => {
          logger.debug('messages to a member are being lost', { member: nameOf(member), reason });
          handlers()?.inbox.unreachable(member);
        },
        onRefused: (member, refusal) => handlers()?.onRefused(member, refusal),
        // Whether it listens to us shows later: it may refuse each message.
        onConnected: (member) => logger.debug('connected to a member', { member: nameOf(member) }),
        onTlsReload: (problem) => {
          if (problem === null) logger.info('cluster certificates reloaded');
          else
            logger.error('cluster certificates could not be reloaded; those in use stay', {
              reason: problem,
            });
        },
      },
    });
    if (!grpc.ok) return err({ ...grpc.error, message: `[cluster]: ${grpc.error.message}` });
    peers = new ClusterPeers(options, directory, grpc.value);
    return ok(peers);
  }

  /** As the replication loop sees it. */
  readonly transport: PeerTransport = {
    send: (to, message) => this.#grpc.send(to, this.#withMembers(message)),
    setMembers: () => this.refresh(),
    close: () => this.#grpc.close(),
  };

  /** What this node tells of itself goes with where the members are, for those that are behind. */
  #withMembers(message: PeerMessage): PeerMessage {
    if (message.kind !== 'report') return message;
    return { ...message, report: { ...message.report, members: membersOf(this.#options.state()) } };
  }

  bind(handlers: PeerHandlers): void {
    this.#handlers = handlers;
  }

  /** Key state may name other members, or other addresses, than before. */
  refresh(): void {
    const members = this.#directory.addresses();
    const addresses = JSON.stringify(members.map(({ memberId, name, address }) => [memberId, name, address]));
    if (addresses === this.#addresses) return;
    this.#addresses = addresses;
    this.#grpc.setMembers(members);
  }

  /** Members that an answer to our joining named. */
  introduced(members: Parameters<PeerDirectory['introduced']>[0]): void {
    this.#directory.introduced(members);
    this.refresh();
  }

  /** Where the members are, as `from` says. */
  reported(from: string, report: NodeReport): void {
    this.#directory.reported(from, report);
    this.refresh();
  }

  async join(
    peer: { readonly name: string; readonly address: string },
    request: JoinRequest,
  ): Promise<Result<unknown, string>> {
    const files = this.#options.loadTls();
    if (!files.ok) return files;
    const answer = await requestJoin({
      address: peer.address,
      name: peer.name,
      files: files.value,
      request,
      deadlineMs: joinDeadlineMs,
    });
    if (answer.ok) return answer;
    const refusal = answer.error.kind === 'not-asked' ? answer.error.refusal : null;
    // The others let this node in and went on in a recovered cluster before it heard of either.
    if (refusal?.reason === 'other-cluster') this.#handlers?.onRefused(peer.name, refusal);
    return err(answer.error.detail);
  }

  /** Has a member run an administrative command. */
  async call(memberId: string, command: string, body: object): Promise<Result<unknown, AdminError>> {
    const answer = await this.#grpc.call(memberId, command, body);
    if (answer.ok) return callAnswer(answer.value);
    const name = this.#options.state().member(memberId)?.name ?? memberId;
    const { kind, detail } = answer.error;
    if (kind === 'no-answer') {
      return err({
        code: 'outcome-unknown',
        message: `${name} did not answer (${detail}): it may or may not have done it.`,
      });
    }
    return err({ code: 'no-quorum', message: `${name} could not be asked: ${detail}. Nothing was changed.` });
  }

  /** Of this node's certificate as it is in use; `null` when it cannot be read any more. */
  get certificateNotAfterMs(): number | null {
    const files = this.#options.loadTls();
    return files.ok ? files.value.notAfterMs : null;
  }

  stats(): PeerTransportStats {
    return this.#grpc.stats();
  }
}

/** gRPC's way to say no is to reject; the text is told to the node that asked. */
function answered(result: Result<unknown, string>): Promise<unknown> {
  return result.ok ? Promise.resolve(result.value) : Promise.reject(new Error(result.error));
}

/** What `onCall` of another member made of it: a `Result` in JSON. */
function callAnswer(value: unknown): Result<unknown, AdminError> {
  if (typeof value === 'object' && value !== null && 'ok' in value)
    return value as Result<unknown, AdminError>;
  return err({ code: 'internal', message: 'The answer of the other node is malformed.' });
}
