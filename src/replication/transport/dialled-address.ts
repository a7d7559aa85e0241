import { type ChannelOptions, experimental, status } from '@grpc/grpc-js';
import { err, ok, type Result } from '../../base/result.js';

const scheme = 'xksd-peer';
const signalKey = 'xksd.abort_signal';

interface HostPort {
  readonly host: string;
  readonly port: number;
}

/** `host:port` with a DNS name, an IPv4 address, or an IPv6 address in brackets. */
function parseHostPort(address: string): Result<HostPort, string> {
  const parts = /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})$/.exec(address);
  const host = parts?.[1] ?? parts?.[2];
  const port = Number(parts?.[3]);
  if (host === undefined || !(port >= 1 && port <= 65_535)) return err(`"${address}" is not "HOST:PORT"`);
  return ok({ host, port });
}

/**
 * Hands the address to gRPC as it stands, so that the operating system resolves a name at every attempt (gRPC's resolver
 * asks DNS every 30 s at most), and with a signal that ends attempts and connections: gRPC's own attempts cannot be
 * given up, and wait for the kernel's retransmissions.
 */
class DialledAddressResolver implements experimental.Resolver {
  readonly #listener: experimental.ResolverListener;
  readonly #options: ChannelOptions;
  readonly #address: string;
  #told = false;

  constructor(
    target: experimental.GrpcUri,
    listener: experimental.ResolverListener,
    options: ChannelOptions,
  ) {
    this.#listener = listener;
    this.#options = options;
    this.#address = target.path;
  }

  updateResolution(): void {
    if (this.#told) return;
    this.#told = true;
    process.nextTick(() => this.#tell());
  }

  #tell(): void {
    if (!this.#told) return;
    const parsed = parseHostPort(this.#address);
    if (!parsed.ok) {
      const problem = { code: status.UNAVAILABLE, details: parsed.error };
      this.#listener(experimental.statusOrFromError(problem), {}, null, '');
      return;
    }
    // What gRPC calls an address are options of `net.connect`, and it passes them on as they are.
    const address = { ...parsed.value, signal: this.#options[signalKey] as AbortSignal };
    this.#listener(experimental.statusOrFromValue([{ addresses: [address] }]), {}, null, '');
  }

  destroy(): void {
    this.#told = false;
  }

  static getDefaultAuthority(target: experimental.GrpcUri): string {
    return target.path;
  }
}

experimental.registerResolver(scheme, DialledAddressResolver);

/** Target and options of a channel to `address` whose sockets `signal` destroys. */
export function dialledAddress(
  address: string,
  signal: AbortSignal,
): { readonly target: string; readonly options: ChannelOptions } {
  return { target: `${scheme}:${address}`, options: { [signalKey]: signal } };
}
