import type { Server } from 'node:net';

/** A listening socket inherited from the supervisor, or (tests, tools) an address of one's own; port 0: any free one. */
export type ListenOn = { readonly fd: number } | { readonly address: string; readonly port: number };

/** Resolves with the port once `server` accepts; rejects when it cannot. */
export function listen(server: Server, on: ListenOn): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.once('listening', () => {
      server.off('error', reject);
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? address.port : 0);
    });
    server.listen('fd' in on ? { fd: on.fd } : { host: on.address, port: on.port });
  });
}
