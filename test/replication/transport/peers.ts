import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ok, type Result } from '../../../src/base/result.js';
import { systemTimers, type Timers } from '../../../src/base/timers.js';
import {
  type Authority,
  makeCertificateAuthority,
  makeLeafCertificate,
} from '../../../src/demo/certificates.js';
import type { PeerMessage } from '../../../src/replication/peer-message.js';
import type { PeerTlsFiles } from '../../../src/replication/transport/peer-credentials.js';
import type { JoinRequest, PeerGate } from '../../../src/replication/transport/peer-server.js';
import {
  type PeerTransport,
  type PeerTransportEvents,
  startPeerTransport,
} from '../../../src/replication/transport/peer-transport.js';
import type { RefusalReason } from '../../../src/replication/transport/refusal.js';

export const testClusterId = 'cluster-1';

export interface TestAuthority extends Authority {
  readonly directory: string;
  readonly pem: string;
}

/** One of several in the same test, perhaps: each has a directory of its own. */
export async function testAuthority(t: Test): Promise<TestAuthority> {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-ca-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const authority = await makeCertificateAuthority(directory);
  return { ...authority, directory, pem: readFileSync(authority.caCertificate, 'utf8') };
}

/** A node's certificate: its name is in the alternative names only. */
export async function nodeFiles(
  authority: TestAuthority,
  name: string,
  trusted = authority.pem,
): Promise<PeerTlsFiles> {
  const leaf = await makeLeafCertificate({
    directory: authority.directory,
    name,
    subject: 'xksd node',
    extensions: ['extendedKeyUsage=clientAuth,serverAuth', `subjectAltName=DNS:${name}`],
    ca: authority,
  });
  return {
    ca: trusted,
    certificate: readFileSync(leaf.certificate, 'utf8'),
    key: readFileSync(leaf.key, 'utf8'),
  };
}

export type PeerEvent =
  | { readonly kind: 'message'; readonly from: string; readonly message: PeerMessage }
  | { readonly kind: 'unreachable'; readonly member: string; readonly detail: string }
  | {
      readonly kind: 'refused';
      readonly member: string;
      readonly reason: RefusalReason;
      readonly detail: string;
    }
  | { readonly kind: 'connected'; readonly member: string }
  | { readonly kind: 'tlsReload'; readonly problem: string | null };

/** A transport whose events can be waited for, in the order in which they come. */
export class TestPeer {
  readonly memberId: string;
  readonly name: string;
  readonly transport: PeerTransport;
  readonly #events: PeerEvent[];
  readonly #arrivals: { notify: () => void };

  constructor(
    memberId: string,
    name: string,
    transport: PeerTransport,
    events: PeerEvent[],
    arrivals: { notify: () => void },
  ) {
    this.memberId = memberId;
    this.name = name;
    this.transport = transport;
    this.#events = events;
    this.#arrivals = arrivals;
  }

  get address(): string {
    return `127.0.0.1:${this.transport.port}`;
  }

  /** The first event of this kind that has not been taken; it and all before it are taken. */
  async next<K extends PeerEvent['kind']>(
    kind: K,
    wanted: (event: Extract<PeerEvent, { kind: K }>) => boolean = () => true,
  ): Promise<Extract<PeerEvent, { kind: K }>> {
    const matches = (event: PeerEvent): event is Extract<PeerEvent, { kind: K }> =>
      event.kind === kind && wanted(event as Extract<PeerEvent, { kind: K }>);
    for (;;) {
      const place = this.#events.findIndex(matches);
      const found = this.#events[place];
      if (found !== undefined && matches(found)) {
        this.#events.splice(0, place + 1);
        return found;
      }
      await new Promise<void>((resolve) => {
        this.#arrivals.notify = resolve;
      });
    }
  }

  /** Those not taken yet. */
  get pending(): readonly PeerEvent[] {
    return this.#events;
  }

  /** Knows and dials the others. */
  meet(...others: readonly TestPeer[]): void {
    this.transport.setMembers(
      [this, ...others].map(({ memberId, name, address }) => ({ memberId, name, address })),
    );
  }
}

export interface TestPeerOptions {
  readonly memberId: string;
  readonly name: string;
  readonly files: PeerTlsFiles | (() => Result<PeerTlsFiles, string>);
  readonly port?: number;
  readonly clusterId?: string;
  readonly format?: () => number;
  /** Default: the member `m-x` has the name `x`. */
  readonly authorize?: PeerGate['authorize'];
  readonly timers?: Timers;
  /** Hears of each event at once, before it can be waited for. */
  readonly onEvent?: (event: PeerEvent) => void;
  readonly onJoin?: (request: JoinRequest) => Promise<unknown>;
  readonly onCall?: PeerTransportEvents['onCall'];
}

export async function startPeer(t: Test, options: TestPeerOptions): Promise<TestPeer> {
  const { memberId, name, files } = options;
  const events: PeerEvent[] = [];
  const arrivals = { notify: (): void => {} };
  const happened = (event: PeerEvent): void => {
    options.onEvent?.(event);
    events.push(event);
    arrivals.notify();
  };
  const started = await startPeerTransport({
    listen: { address: '127.0.0.1', port: options.port ?? 0 },
    gate: {
      clusterId: options.clusterId ?? testClusterId,
      memberId,
      formatMin: 1,
      formatMax: 2,
      authorize:
        options.authorize ??
        ((from, names) =>
          names.includes(from.slice(2)) ? { ok: true } : { ok: false, reason: 'wrong-name' }),
    },
    format: options.format ?? (() => 1),
    loadTls: typeof files === 'function' ? files : () => ok(files),
    timers: options.timers ?? systemTimers,
    events: {
      onMessage: (from, message) => happened({ kind: 'message', from, message }),
      onUnreachable: (member, detail) => happened({ kind: 'unreachable', member, detail }),
      onRefused: (member, refusal) => happened({ kind: 'refused', member, ...refusal }),
      onConnected: (member) => happened({ kind: 'connected', member }),
      onTlsReload: (problem) => happened({ kind: 'tlsReload', problem }),
      onJoin: options.onJoin ?? (async () => null),
      onCall: options.onCall ?? (async () => null),
    },
  });
  if (!started.ok) throw new Error(started.error.message);
  const transport = started.value;
  t.teardown(() => transport.close());
  return new TestPeer(memberId, name, transport, events, arrivals);
}

export function heartbeat(from: TestPeer, to: TestPeer, commitIndex = 1): PeerMessage {
  return {
    kind: 'raft',
    message: { kind: 'heartbeat', from: from.memberId, to: to.memberId, term: 3, commitIndex, readId: null },
  };
}
