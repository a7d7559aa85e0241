import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

const host = '127.0.0.1';
/** Below are the ports of services that people know. */
const portMin = 10_000;
const portMax = 65_535;
/** Each fails only on a port that somebody has; far more than there are nodes on one machine. */
const attemptsMax = 1_000;
/** Fewer that the kernel does not hand out are too few to draw from. */
const othersMin = 1_000;
/** Where /proc does not tell: the kernel's default (ip-sysctl, ip_local_port_range). */
const outgoingDefault = { first: 32_768, last: 60_999 };

/**
 * A TCP port of 127.0.0.1 for a server that may end and come back: `preferred` when it is free, else (and for 0) one that
 * nobody takes meanwhile. None that the kernel hands out: while the server is away an outgoing connection would get it,
 * and, where that side closes it, keep it for another minute (TIME_WAIT); listening fails as long, SO_REUSEADDR or not.
 * Nor one that another process got here and has not listened on yet: as long as this process lives it holds the UDP port
 * of the same number.
 */
export async function freePort(preferred: number): Promise<number> {
  if (preferred !== 0 && (await mayListen(preferred))) return preferred;
  const outgoing = outgoingPorts();
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const port = randomInt(portMin, portMax + 1);
    if (port >= outgoing.first && port <= outgoing.last) continue;
    const release = await hold(port);
    if (release === null) continue;
    if (await mayListen(port)) return port;
    release();
  }
  throw new Error(`no port of ${host} between ${portMin} and ${portMax} is free to listen on`);
}

/** Those that the kernel takes for whoever connects and names none. */
function outgoingPorts(): { readonly first: number; readonly last: number } {
  let text: string;
  try {
    text = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  } catch {
    return outgoingDefault;
  }
  const [first = 0, last = 0] = text.split(/\s+/).map(Number);
  const others = Math.max(0, first - portMin) + Math.max(0, portMax - last);
  // A machine may be set to hand out nearly all of them: then none is better than another.
  return others < othersMin ? { first: 0, last: 0 } : { first, last };
}

/** `null`: another process holds it. What is answered lets it go. */
function hold(port: number): Promise<(() => void) | null> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    socket.once('error', () => resolve(null));
    socket.bind({ port, address: host, exclusive: true }, () => {
      socket.unref();
      resolve(() => socket.close());
    });
  });
}

function mayListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
