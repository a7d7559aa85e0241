import { readdir, readFile, readlink } from 'node:fs/promises';
import { childrenOf } from '../support/running-node.js';

/** A node of the cluster under test, as far as telling connections apart goes. */
export interface Dialer {
  readonly name: string;
  /** Of its supervisor; 0 while it is down. */
  readonly pid: number;
}

/** TCP states of /proc/net/tcp in which a connection still has an owner. */
const established = '01';
const closeWait = '08';

const hexPort = (port: number): string => port.toString(16).toUpperCase().padStart(4, '0');

/** The inode of the socket at the other end of a connection that came in over IPv4 loopback; `null` when it is gone. */
async function inodeOfPeer(localPort: number, remotePort: number): Promise<string | null> {
  const local = `0100007F:${hexPort(remotePort)}`;
  const remote = `0100007F:${hexPort(localPort)}`;
  for (const line of (await readFile('/proc/net/tcp', 'latin1')).split('\n')) {
    const fields = line.trim().split(/\s+/);
    if (fields[1] !== local || fields[2] !== remote) continue;
    if (fields[3] === established || fields[3] === closeWait) return fields[9] ?? null;
  }
  return null;
}

/**
 * Whose replica holds the other end of a connection. Nodes on one machine dial from the same address, and what they say
 * is encrypted: only the kernel knows who is who.
 *
 * @returns `null` when the connection is gone already, or nobody's.
 */
export async function dialerOf(
  dialers: readonly Dialer[],
  localPort: number,
  remotePort: number,
): Promise<string | null> {
  const inode = await inodeOfPeer(localPort, remotePort);
  if (inode === null) return null;
  for (const { name, pid } of dialers) {
    for (const child of pid > 0 ? childrenOf(pid) : []) {
      if (await holdsSocket(child, inode)) return name;
    }
  }
  return null;
}

async function holdsSocket(pid: number, inode: string): Promise<boolean> {
  const directory = `/proc/${pid}/fd`;
  const descriptors = await readdir(directory).catch(() => []);
  const targets = await Promise.all(descriptors.map((fd) => readlink(`${directory}/${fd}`).catch(() => '')));
  return targets.includes(`socket:[${inode}]`);
}
