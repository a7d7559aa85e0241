import { readFileSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { XksAccess } from './driver/prepared-requests.js';
import type { Traffic } from './measurement.js';

/** What is measured. */
export type TargetOptions =
  | {
      readonly kind: 'own';
      readonly nodes: number;
      readonly servingProcesses: number;
      /** Of a serving process at most; `null`: the product's own default. */
      readonly sessions: number | null;
      readonly tokenDelayMs: number;
      readonly profile: boolean;
    }
  | {
      readonly kind: 'external';
      readonly urls: readonly string[];
      readonly ca: string | null;
      readonly access: XksAccess;
      readonly pids: readonly number[];
    };

/** How it is measured. */
export type Mode =
  | { readonly kind: 'open' }
  | { readonly kind: 'closed' }
  | { readonly kind: 'find-max' }
  /** Open loop, every other part of it while key state changes. */
  | { readonly kind: 'writes'; readonly perSecond: number };

export interface LoadOptions {
  readonly target: TargetOptions;
  readonly traffic: Traffic;
  readonly mode: Mode;
  readonly rate: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly outDirectory: string | null;
}

/** Requests on the way at once by which a slow token keeps up with the rate (Little's law). */
const connectionsFor = (tokenDelayMs: number): number => (tokenDelayMs > 0 ? 256 : 32);

/** A write that no other node acknowledges says little of what one costs. */
const nodesOfACluster = 3;

const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('It must be a number above 0.');
  return value;
};

const notNegative = (text: string): number => (Number(text) === 0 ? 0 : positive(text));

const count = (text: string): number => {
  const value = positive(text);
  if (!Number.isInteger(value)) throw new InvalidArgumentError('It must be a whole number above 0.');
  return value;
};

const bytes = (text: string): number => {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a number of bytes.');
  return Number(text);
};

/** `encrypt:decrypt` in any proportion. */
function share(text: string): number {
  const parts = /^(\d+):(\d+)$/.exec(text);
  const [encrypts, decrypts] = [Number(parts?.[1]), Number(parts?.[2])];
  if (!(encrypts + decrypts > 0))
    throw new InvalidArgumentError('It must be "ENCRYPTS:DECRYPTS", as in "50:50".');
  return encrypts / (encrypts + decrypts);
}

/** Of those that a command does not take there is none. */
interface Flags {
  readonly rate: number;
  readonly duration: number;
  readonly warmUp?: number;
  readonly connections?: number;
  readonly http: '1.1' | '2';
  readonly streams: number;
  readonly mix: number;
  readonly payload: number;
  readonly aad: number;
  readonly cdiv: boolean;
  readonly closed?: boolean;
  readonly findMax?: boolean;
  readonly writes?: number;
  readonly nodes?: number;
  readonly servingProcesses?: number;
  readonly sessions?: number;
  readonly tokenDelay?: number;
  readonly profile?: boolean;
  readonly out?: string;
  readonly target?: readonly string[];
  readonly ca?: string;
  readonly uriPrefix?: string;
  readonly key?: string;
  readonly region?: string;
  readonly accessKeyId?: string;
  readonly secretFile?: string;
  readonly pid?: readonly number[];
}

const list =
  <T>(parse: (text: string) => T) =>
  (text: string, before: readonly T[] = []): readonly T[] => [...before, parse(text)];

/** What a command takes besides the load itself. */
export interface Taken {
  /** Seconds, when nothing is said. */
  readonly duration: number;
  /** Another way than an open loop, and where the report goes. */
  readonly modes?: boolean;
  /** Which proxy it is. */
  readonly proxy?: boolean;
  readonly out?: boolean;
}

const servingProcessesDefault = 2;
const warmUpDefault = 5;

/** Options of our own nodes, by the names in `Flags`: what another proxy does not get told. */
const ownOptions = ['nodes', 'servingProcesses', 'sessions', 'tokenDelay', 'profile'] as const;

/** Adds the options of a load to a command: only those that it heeds. */
export function withLoadOptions(command: Command, taken: Taken): Command {
  command
    .option('--rate <per second>', 'requests a second, open loop', positive, 1_800)
    .option('--duration <seconds>', 'measured time, warm-up apart', positive, taken.duration)
    .option('--connections <count>', 'connections (32; 256 with --token-delay)', count)
    .addOption(new Option('--http <version>', 'HTTP version').choices(['1.1', '2']).default('1.1'))
    .option('--streams <count>', 'requests at once on an HTTP/2 connection', count, 1)
    .addOption(
      new Option('--mix <encrypts:decrypts>', 'proportion of the operations')
        .argParser(share)
        .default(0.5, '50:50'),
    )
    .option('--payload <bytes>', 'plaintext of an Encrypt', bytes, 32)
    .option('--aad <bytes>', 'additional authenticated data', bytes, 200)
    .option('--no-cdiv', 'ask for no integrity value');
  if (taken.proxy) proxyOptions(command);
  if (taken.modes) modeOptions(command);
  if (taken.out) command.option('--out <directory>', 'where the report goes (var/bench)');
  return command;
}

function modeOptions(command: Command): void {
  command
    .option('--closed', 'closed loop: each connection sends when its last answer came', false)
    .option('--find-max', 'the highest rates with p99 below 250 ms and below 25 ms, without an error', false)
    .option(
      '--writes <per second>',
      'changes of key state during every other sixth of the time; 0: how far two such halves differ by themselves',
      notNegative,
    )
    .option('--profile', 'CPU profile of every process, and where it went', false);
}

function proxyOptions(command: Command): void {
  command
    .option('--warm-up <seconds>', 'load before what is measured', positive, warmUpDefault)
    .option('--nodes <count>', 'nodes of ours (1; 3 with --writes)', count)
    .option('--serving-processes <count>', 'serving processes of a node', count, servingProcessesDefault)
    .option('--sessions <count>', 'most PKCS#11 sessions of a serving process', count)
    .option(
      '--token-delay <ms>',
      'what each PKCS#11 call of an encrypt or decrypt takes on top, and the opening of a session',
      notNegative,
      0,
    )
    .option('--target <url>', 'another proxy; more than once for several addresses of it', list(String))
    .option('--ca <file>', 'PEM of its authority (CA_FILE)')
    .option('--uri-prefix <prefix>', 'path before /kms/xks/v1, without slashes at the ends (URI_PREFIX)')
    .option('--key <id>', 'external key id (KEY_ID)')
    .option('--region <name>', 'region in the credential scope (REGION)')
    .option('--access-key-id <id>', 'SigV4 credential (SIGV4_ACCESS_KEY_ID)')
    .option('--secret-file <file>', 'file with its secret access key (SIGV4_SECRET_ACCESS_KEY holds it)')
    .option('--pid <pid>', 'process of that proxy on this machine, for CPU and memory', list(count));
}

/** What was said, and is not a default, of this command itself or of another one. */
const isSaid = (command: Command, name: string): boolean => command.getOptionValueSource(name) === 'cli';

/** Options before the name of a command are another command's, and would be lost. */
function refuseMisplaced(command: Command): void {
  const { parent } = command;
  const misplaced = parent?.options.find((option) => isSaid(parent, option.attributeName()));
  if (misplaced !== undefined)
    command.error(`error: ${misplaced.long ?? misplaced.flags} belongs behind "${command.name()}"`);
}

/** Reads them; ends the process with status 2 where they make no sense. */
export function loadOptions(command: Command): LoadOptions {
  refuseMisplaced(command);
  const flags = command.opts<Flags>();
  const modes: Mode[] = [];
  if (flags.closed) modes.push({ kind: 'closed' });
  if (flags.findMax) modes.push({ kind: 'find-max' });
  if (flags.writes !== undefined) modes.push({ kind: 'writes', perSecond: flags.writes });
  const [mode = { kind: 'open' } as const, another] = modes;
  if (another !== undefined) command.error('error: --closed, --find-max and --writes exclude each other');
  if (mode.kind === 'writes' && flags.target !== undefined)
    command.error('error: --writes changes key state of our own nodes, not of a --target');
  if (flags.http === '1.1' && flags.streams > 1) command.error('error: --streams is for --http 2');
  return {
    target: targetOptions(command, flags),
    traffic: {
      http: flags.http,
      connections: flags.connections ?? connectionsFor(flags.tokenDelay ?? 0),
      streams: flags.streams,
      bodies: { plaintextBytes: flags.payload, aadBytes: flags.aad, cdiv: flags.cdiv },
      encryptShare: flags.mix,
    },
    mode,
    rate: flags.rate,
    seconds: flags.duration,
    warmUpSeconds: flags.warmUp ?? warmUpDefault,
    outDirectory: flags.out ?? null,
  };
}

function targetOptions(command: Command, flags: Flags): TargetOptions {
  if (flags.target === undefined) {
    const { servingProcesses = servingProcessesDefault, tokenDelay = 0, profile = false } = flags;
    const nodes = flags.nodes ?? (flags.writes === undefined ? 1 : nodesOfACluster);
    const sessions = flags.sessions ?? null;
    return { kind: 'own', nodes, servingProcesses, sessions, tokenDelayMs: tokenDelay, profile };
  }
  const ours = ownOptions.find((name) => isSaid(command, name));
  if (ours !== undefined) {
    const option = command.options.find((one) => one.attributeName() === ours);
    command.error(`error: ${option?.long ?? ours} is for our own nodes, not for a --target`);
  }
  // The names that var/demo/env and AWS's test client use.
  const given = (option: string, value: string | undefined, variable: string): string => {
    const known = value ?? process.env[variable];
    return known ?? command.error(`error: --target needs ${option}, or ${variable} in the environment`);
  };
  const file = (option: string, path: string): string => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return command.error(`error: ${option} ${path} cannot be read`);
    }
  };
  for (const url of flags.target)
    if (!/^https?:\/\/[^/]+\/?$/.test(url)) command.error('error: --target must be http(s)://HOST:PORT');
  const caFile = flags.ca ?? process.env['CA_FILE'];
  return {
    kind: 'external',
    urls: flags.target,
    ca: caFile === undefined ? null : file('--ca', caFile),
    pids: flags.pid ?? [],
    access: {
      uriPathPrefix: given('--uri-prefix', flags.uriPrefix, 'URI_PREFIX').replace(/^\/|\/$/g, ''),
      keyId: given('--key', flags.key, 'KEY_ID'),
      region: given('--region', flags.region, 'REGION'),
      accessKeyId: given('--access-key-id', flags.accessKeyId, 'SIGV4_ACCESS_KEY_ID'),
      secretAccessKey:
        flags.secretFile === undefined
          ? given('--secret-file', undefined, 'SIGV4_SECRET_ACCESS_KEY')
          : file('--secret-file', flags.secretFile).replace(/\r?\n$/, ''),
    },
  };
}
