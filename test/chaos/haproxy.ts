import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { DebianPackage } from '../../src/demo/debian-packages.js';

export const haproxyPackage: DebianPackage = { name: 'haproxy', provides: 'haproxy' };

export interface Target {
  readonly name: string;
  readonly xksPort: number;
  readonly healthPort: number;
}

/** Between two looks at a node's health, and how many must fail or succeed in a row. */
const healthCheck = { intervalMs: 200, fall: 2, rise: 2 } as const;

/**
 * As near to a Network Load Balancer as it gets: it passes bytes on, tries one node per connection and never another,
 * and lets the connections of a node that is marked down live (unhealthy connection termination off, as the guide says).
 */
const configuration = (port: number, targets: readonly Target[]): string => `global
  maxconn 2000
defaults
  mode tcp
  retries 0
  no option redispatch
  timeout connect 1s
  timeout client 75s
  timeout server 75s
  timeout check 1s
frontend xks
  bind 127.0.0.1:${port}
  default_backend nodes
backend nodes
  balance roundrobin
  option httpchk GET /healthz
  default-server inter ${healthCheck.intervalMs}ms fall ${healthCheck.fall} rise ${healthCheck.rise}
${targets.map(({ name, xksPort, healthPort }) => `  server ${name} 127.0.0.1:${xksPort} check port ${healthPort}`).join('\n')}
`;

/** A HAProxy of our own, with its configuration and log in `directory`. */
export class HaProxy {
  readonly port: number;
  readonly #child: ChildProcess;
  readonly #logFile: string;

  private constructor(port: number, child: ChildProcess, logFile: string) {
    this.port = port;
    this.#child = child;
    this.#logFile = logFile;
  }

  static async start(directory: string, port: number, targets: readonly Target[]): Promise<HaProxy> {
    const file = join(directory, 'haproxy.cfg');
    writeFileSync(file, configuration(port, targets));
    const logFile = join(directory, 'haproxy.log');
    const log = openSync(logFile, 'a');
    // `-db`: in the foreground, one process.
    const child = spawn('haproxy', ['-db', '-f', file], {
      stdio: ['ignore', log, log],
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
    });
    await once(child, 'spawn');
    return new HaProxy(port, child, logFile);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Whether it sends new connections to a target: by its last word on it. Up is what it takes them for at first. */
  isUp(target: string): boolean {
    const said = [...readFileSync(this.#logFile, 'utf8').matchAll(/Server nodes\/(\S+) is (UP|DOWN)/g)];
    return said.findLast(([, name]) => name === target)?.[2] !== 'DOWN';
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
  }
}
