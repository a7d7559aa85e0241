import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { Test } from 'tap';

interface ProxyState {
  silent: boolean;
  targetPort: number;
}

/** Passes bytes on, until it is told to swallow them: the connections stay, and nobody hears anything. */
export class TcpProxy {
  readonly address: string;
  readonly #state: ProxyState;

  constructor(port: number, state: ProxyState) {
    this.address = `127.0.0.1:${port}`;
    this.#state = state;
  }

  silence(): void {
    this.#state.silent = true;
  }

  /** New connections go there. */
  leadTo(port: number): void {
    this.#state.targetPort = port;
  }

  /** New connections go through again; bytes swallowed are gone. */
  resume(): void {
    this.#state.silent = false;
  }
}

export async function startTcpProxy(t: Test, targetPort: number): Promise<TcpProxy> {
  const state: ProxyState = { silent: false, targetPort };
  const sockets = new Set<Socket>();
  const server = createServer((incoming) => {
    const outgoing = connect({ host: '127.0.0.1', port: state.targetPort });
    for (const [from, to] of [
      [incoming, outgoing],
      [outgoing, incoming],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => {
        if (!state.silent) to.write(bytes);
      });
      from.on('error', () => {});
      from.on('close', () => {
        sockets.delete(from);
        if (!state.silent) to.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return new TcpProxy((server.address() as AddressInfo).port, state);
}
