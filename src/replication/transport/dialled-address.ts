import { type ChannelOptions, experimental, status } from '@grpc/grpc-js';
import { err, ok, type Result } from '../../base/result.js';
import { attemptsPerChannelMax } from './limits.js';

const scheme = 'xksd-peer';
const dialledKey = 'xksd.dialled';
/** In the place of an address that is none: gRPC throws where it cannot read one. */
const unreadable = 'unreadable';

interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** What the resolver needs, which gRPC hands to it among the options of the channel. */
interface Dialled {
  readonly address: Result<HostPort, string>;
  readonly attempts: DialAttempts;
}

/** `host:port` with a DNS name, an IPv4 address, or an IPv6 address in brackets. */
function parseHostPort(address: string): Result<HostPort, string> {
  const parts = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(address);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  if (host === undefined || !(port >= 1 && port <= 65_535))
    return err(`${JSON.stringify(address)} is not "HOST:PORT"`);
  return ok({ host, port });
}

/** Those of one channel, each with a signal of its own: what `net.connect` adds to one stays there. */
export class DialAttempts {
  /** Oldest first: of more than these, all but the last few have long ended. */
  readonly #attempts: AbortController[] = [];
  #aborted = false;

  /**
   * The options of `net.connect` for all of them, which reads `signal` at each.
   *
   * gRPC makes one more attempt after a channel that waited to try again was closed. `net.connect` with a signal that was
   * aborted before says so, and then connects nevertheless, for nobody; it must not get that far.
   */
  options(address: HostPort): HostPort & { readonly signal: AbortSignal } {
    const next = (): AbortSignal => this.#next();
    return {
      ...address,
      get signal() {
        return next();
      },
    };
  }

  /** Destroys their sockets, and those to come. */
  abort(): void {
    this.#aborted = true;
    for (const attempt of this.#attempts.splice(0)) attempt.abort();
  }

  #next(): AbortSignal {
    if (this.#aborted) throw new Error('the channel is closed');
    if (this.#attempts.length >= attemptsPerChannelMax) this.#attempts.shift()?.abort();
    const attempt = new AbortController();
    this.#attempts.push(attempt);
    return attempt.signal;
  }
}

/**
 * Hands the address to gRPC as it stands, so that the operating system resolves a name at every attempt (gRPC's resolver
 * asks DNS every 30 s at most), and with signals that end attempts and connections: gRPC's own attempts cannot be
 * given up, and wait for the kernel's retransmissions.
 */
class DialledAddressResolver implements experimental.Resolver {
  readonly #listener: experimental.ResolverListener;
  readonly #options: ChannelOptions;
  #told = false;

  constructor(
    _target: experimental.GrpcUri,
    listener: experimental.ResolverListener,
    options: ChannelOptions,
  ) {
    this.#listener = listener;
    this.#options = options;
  }

  updateResolution(): void {
    if (this.#told) return;
    this.#told = true;
    process.nextTick(() => this.#tell());
  }

  #tell(): void {
    if (!this.#told) return;
    const { address, attempts } = this.#options[dialledKey] as Dialled;
    if (!address.ok) {
      const problem = { code: status.UNAVAILABLE, details: address.error };
      this.#listener(experimental.statusOrFromError(problem), {}, null, '');
      return;
    }
    // What gRPC calls an address are options of `net.connect`, and it passes them on as they are.
    const addresses = [attempts.options(address.value)];
    this.#listener(experimental.statusOrFromValue([{ addresses }]), {}, null, '');
  }

  destroy(): void {
    this.#told = false;
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return target.path;
  }
}

experimental.registerResolver(scheme, DialledAddressResolver);

/** Target and options of a channel to `address` whose sockets `attempts` can destroy. */
export function dialledAddress(
  address: string,
  attempts: DialAttempts,
): { readonly target: string; readonly options: ChannelOptions } {
  const parsed = parseHostPort(address);
  const dialled: Dialled = { address: parsed, attempts };
  return { target: `${scheme}:${parsed.ok ? address : unreadable}`, options: { [dialledKey]: dialled } };
}
