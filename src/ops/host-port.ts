import { isIP } from 'node:net';

/** What is wrong with an address that is none. */
export const hostPortForm =
  '"HOST:PORT" with a DNS name, an IPv4 address or an IPv6 address in brackets, as in "xks-1.example.com:7443"';

/** Whether it is `HOST:PORT` as members of a cluster dial it; a name is resolved by them, at every attempt. */
export function isHostPort(text: string): boolean {
  const [, address, name, digits] =
    /^(?:\[([^\]]+)\]|([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  const isHost = address === undefined ? name !== undefined : isIP(address) === 6;
  return isHost && port >= 1 && port <= 65_535;
}
