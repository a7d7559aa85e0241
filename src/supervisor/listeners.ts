import { getSystemErrorName } from 'node:util';
import type { NativeBinding } from '../base/native.js';
import { err, ok, type Result } from '../base/result.js';
import type { Config, ListenAddress } from '../ops/config.js';

/** Connections that wait for a serving process to accept them, per listener; the kernel caps it (somaxconn). */
const backlog = 1_024;

const names = ['xks', 'health', 'metrics'] as const;
type ListenerName = (typeof names)[number];

interface Listener {
  readonly fd: number;
  /** `ADDRESS:PORT`, with the port that was bound. */
  readonly address: string;
}

/** The listening sockets of the node, held by the supervisor so that they outlive whoever accepts on them. */
type Listeners = Readonly<Record<ListenerName, Listener>>;

/** Binds them all; the error names the setting and the address. */
export function bindListeners(native: NativeBinding, config: Config): Result<Listeners, string> {
  const bound: Partial<Record<ListenerName, Listener>> = {};
  for (const name of names) {
    const { address, port } = config[name].listen;
    const fd = native.bindTcp(address, port, backlog);
    if (fd < 0) return err(describeFailure(name, config[name].listen, fd));
    bound[name] = { fd, address: format({ address, port: native.boundPort(fd) }) };
  }
  return ok(bound as Listeners);
}

const format = ({ address, port }: ListenAddress): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;

function describeFailure(name: ListenerName, listen: ListenAddress, negativeErrno: number): string {
  const code = getSystemErrorName(negativeErrno);
  const reasons: Readonly<Record<string, string>> = {
    EADDRINUSE: 'another process has this port',
    EADDRNOTAVAIL: 'no interface of this host has this address',
    EACCES: `ports below 1024 need CAP_NET_BIND_SERVICE (the unit has it), or choose another port`,
  };
  return `cannot listen on ${format(listen)} ([${name}] listen): ${reasons[code] ?? 'refused by the kernel'} (${code})`;
}
