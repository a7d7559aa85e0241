import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import t from 'tap';
import { freePort } from '../../src/demo/free-port.js';

const host = '127.0.0.1';

/** The code of the error with which the UDP port cannot be had; `null` when it can. */
function heldBy(port: number): Promise<string | null> {
  const socket = createSocket('udp4');
  return new Promise((resolve) => {
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
    socket.bind({ port, address: host, exclusive: true }, () => socket.close(() => resolve(null)));
  });
}

t.test('a port is none that an outgoing connection could get, and is held for this process', async (t) => {
  const range = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8');
  const [first = 0, last = 0] = range.split(/\s+/).map(Number);
  const ports = await Promise.all(Array.from({ length: 50 }, () => freePort(0)));
  t.equal(new Set(ports).size, ports.length, 'no port is given twice');
  t.strictSame(
    ports.filter((port) => port >= first && port <= last),
    [],
  );
  for (const port of ports.slice(0, 3)) t.equal(await heldBy(port), 'EADDRINUSE');
});

t.test('the preferred port when it is free, else another', async (t) => {
  const preferred = await freePort(0);
  t.equal(await freePort(preferred), preferred);
  const server = createServer().listen(preferred, host);
  t.teardown(() => server.close());
  await once(server, 'listening');
  t.not(await freePort(preferred), preferred);
});
