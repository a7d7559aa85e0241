import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** Everything a person or a tool wants to know of one demo node; `var/demo/nodes.json` lists these. */
export interface DemoNodeDescription {
  readonly name: string;
  /** The supervisor's. */
  readonly pid: number;
  readonly url: string;
  readonly healthUrl: string;
  readonly metricsUrl: string;
  readonly adminSocket: string;
  readonly dataDir: string;
  readonly logFile: string;
}

export interface DemoNodeOptions {
  readonly name: string;
  /** A folder of its own for this node. */
  readonly directory: string;
  readonly ports: { readonly xks: number; readonly health: number; readonly metrics: number };
  /** `null`: a cluster of one that no other node can join. */
  readonly peer: PeerEndpoint | null;
  readonly certificate: string;
  readonly privateKey: string;
  readonly hsmUri: string;
  /** Of more tokens, each with a module of its own. */
  readonly otherHsmUris?: readonly string[];
  readonly initArgs: string;
  /** `[[hsm]] profile` of every token; without it, the product's default. */
  readonly hsmProfile?: string;
  /** Environment of the node: `SOFTHSM2_CONF` above all. */
  readonly environment: Readonly<Record<string, string>>;
  readonly xksdPath: string;
  /** Start it again when it dies, as systemd would. */
  readonly restart: boolean;
  /** How long it serves on, unhealthy, before it ends; without it, a second. */
  readonly drainSeconds?: number;
  /** `[serving] processes`; without it, 2. */
  readonly servingProcesses?: number;
  /** `[[hsm]] sessions_max`; without it, what xksd takes by itself. */
  readonly sessionsMax?: number;
  /** Of Node itself, for every process of the node: a profiler's. */
  readonly nodeArguments?: readonly string[];
  /** `[xks] request_deadline_ms`. */
  readonly requestDeadlineMs: number;
  readonly logLevel: 'info' | 'debug';
  /** `xksd run --trace-pkcs11`. */
  readonly tracePkcs11?: boolean;
  readonly onPidChange: () => void;
}

/** Where the other nodes reach this one, and how they know it. */
export interface PeerEndpoint {
  /** Where it listens, on loopback. */
  readonly port: number;
  /** What the others are told; something between the nodes when it is not `127.0.0.1:port`. */
  readonly advertise: string;
  readonly ca: string;
  readonly certificate: string;
  readonly privateKey: string;
}

const restartDelayMs = 500;
const drainSecondsDefault = 1;
const servingProcessesDefault = 2;
/** Drain, what is in flight, and a margin. */
const stopTimeoutMs = 15_000;

const toml = (text: string): string => JSON.stringify(text);

/** A unix socket's path has at most 107 bytes (unix(7)), and its name here up to 12. */
const runtimeDirectoryBytesMax = 95;

/** Beside everything else of the node, or in the system's temporary folder when the checkout lies too deep. */
function runtimeDirectoryFor(directory: string): string {
  const beside = join(directory, 'run');
  if (Buffer.byteLength(beside) > runtimeDirectoryBytesMax) return mkdtempSync(join(tmpdir(), 'xksd-demo-'));
  mkdirSync(beside, { recursive: true, mode: 0o700 });
  return beside;
}

/** One xksd on loopback, restarted when it dies, as systemd would. */
export class DemoNode {
  readonly configPath: string;
  readonly logFile: string;
  readonly adminSocket: string;
  readonly #options: DemoNodeOptions;
  readonly #runtimeDirectory: string;
  #child: ChildProcess | null = null;
  #exitCode: Promise<number | null> = Promise.resolve(null);
  #stopping = false;

  constructor(options: DemoNodeOptions) {
    this.#options = options;
    this.configPath = join(options.directory, 'xksd.toml');
    this.logFile = join(options.directory, 'xksd.log');
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.#runtimeDirectory = runtimeDirectoryFor(options.directory);
    this.adminSocket = join(this.#runtimeDirectory, 'admin.sock');
    writeFileSync(this.configPath, this.#config(), { mode: 0o600 });
  }

  get description(): DemoNodeDescription {
    const { name, directory, ports } = this.#options;
    return {
      name,
      pid: this.#child?.pid ?? 0,
      url: `https://127.0.0.1:${ports.xks}`,
      healthUrl: `http://127.0.0.1:${ports.health}/healthz`,
      metricsUrl: `http://127.0.0.1:${ports.metrics}/metrics`,
      adminSocket: this.adminSocket,
      dataDir: join(directory, 'data'),
      logFile: this.logFile,
    };
  }

  /** Whether the process has ended before it was told to; `start` restarts it until `stop`. */
  get exitedEarly(): boolean {
    return this.#child === null && !this.#stopping;
  }

  /** The exit code of the process started last, `null` when a signal ended it. */
  get exitCode(): Promise<number | null> {
    return this.#exitCode;
  }

  /** @param xksdPath of another release than the node's own, this time. */
  start(xksdPath = this.#options.xksdPath): void {
    const log = openSync(this.logFile, 'a', 0o600);
    const { nodeArguments = [], tracePkcs11 = false } = this.#options;
    const run = ['run', '--config', this.configPath, ...(tracePkcs11 ? ['--trace-pkcs11'] : [])];
    const child = spawn(process.execPath, [...nodeArguments, xksdPath, ...run], {
      // A group of its own: a Ctrl-C in the terminal reaches the demo, which then drains its nodes.
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...process.env, ...this.#options.environment },
    });
    closeSync(log);
    this.#child = child;
    this.#exitCode = new Promise((resolve) => child.once('exit', (code) => resolve(code)));
    this.#options.onPidChange();
    child.once('exit', () => {
      this.#child = null;
      if (this.#stopping || !this.#options.restart) return;
      setTimeout(() => {
        if (!this.#stopping) this.start();
      }, restartDelayMs);
    });
  }

  /** Drains and ends the node; kills it when it does not end by itself. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#end();
    rmSync(this.#runtimeDirectory, { recursive: true, force: true });
  }

  async #end(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGTERM');
    const timeout = new AbortController();
    await Promise.race([
      ended,
      delay(stopTimeoutMs, undefined, { signal: timeout.signal }).catch(() => undefined),
    ]);
    timeout.abort();
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
    await ended;
  }

  #config(): string {
    const { peer } = this.#options;
    const cluster =
      peer === null
        ? ''
        : `
[cluster]
listen = "127.0.0.1:${peer.port}"
advertise = ${toml(peer.advertise)}
ca = ${toml(peer.ca)}
certificate = ${toml(peer.certificate)}
private_key = ${toml(peer.privateKey)}
`;
    const {
      name,
      directory,
      ports,
      certificate,
      privateKey,
      hsmUri,
      otherHsmUris = [],
      initArgs,
      hsmProfile,
      requestDeadlineMs,
      logLevel,
      drainSeconds,
      servingProcesses,
      sessionsMax,
    } = this.#options;
    const hsmSection = (uri: string): string => `[[hsm]]
uri = ${toml(uri)}
init_args = ${toml(uri === hsmUri ? initArgs : '')}
${hsmProfile === undefined ? '' : `profile = ${toml(hsmProfile)}\n`}${sessionsMax === undefined ? '' : `sessions_max = ${sessionsMax}\n`}`;
    return `# Written by the demo; every start of the demo writes it anew.
[node]
name = ${toml(name)}
data_dir = ${toml(join(directory, 'data'))}
runtime_dir = ${toml(this.#runtimeDirectory)}

[xks]
listen = "127.0.0.1:${ports.xks}"
tls_certificate = ${toml(certificate)}
tls_private_key = ${toml(privateKey)}
request_deadline_ms = ${requestDeadlineMs}

[health]
listen = "127.0.0.1:${ports.health}"

[metrics]
listen = "127.0.0.1:${ports.metrics}"

[serving]
processes = ${servingProcesses ?? servingProcessesDefault}
drain_seconds = ${drainSeconds ?? drainSecondsDefault}
${cluster}
${[hsmUri, ...otherHsmUris].map(hsmSection).join('')}
[log]
level = ${toml(logLevel)}
`;
  }
}
