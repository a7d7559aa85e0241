import { isIP } from 'node:net';
import { availableParallelism, hostname } from 'node:os';
import { resolve } from 'node:path';
import { z } from 'zod';
import { hostPortForm, isHostPort } from './host-port.js';
import { isNodeName, nodeNameForm } from './node-name.js';

/** Tokens of a node: as many as GetHealthStatus shows (X-H2). */
export const hsmsMax = 10;
/** The same as `profileNames` in `src/hsm/profile/`, which a test makes sure of. */
export const hsmProfiles = ['auto', 'luna', 'cloudhsm', 'nshield', 'softhsm', 'nss'] as const;

/** Cores − 1: one is left to the replica, the kernel and the HSM's library. Two, so that one can die. */
const defaultServingProcesses = (): number => Math.min(8, Math.max(2, availableParallelism() - 1));

/** Sessions of a worker: a token that takes 5 ms a call wants so many at what KMS may send (Little's law). */
const workerSessionsDefault = 64;
const workerSessionsMax = 256;
/** 64 serving processes, 16 workers each. */
const sessionsMaxLimit = 64 * 16 * workerSessionsMax;

/** `sessionsMax`: of the node; `undefined` for the default. */
const sessionsOfAWorker = (sessionsMax: number | undefined, workers: number): number =>
  sessionsMax === undefined
    ? workerSessionsDefault
    : Math.min(workerSessionsMax, Math.floor(sessionsMax / workers));

const integer = (min: number, max: number) => {
  const error = `must be a whole number from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
};

const text = (error: string) => z.string({ error }).min(1, { error });

/** No path has a NUL in it, and no system call takes one. */
const pathText = (error: string) => text(error).refine((value) => !value.includes('\0'), { error });

/** systemd.exec(5), LoadCredential=: a file name. */
const isCredential = (value: string): boolean =>
  /^credential:[A-Za-z0-9._-]+$/.test(value) && !/^credential:\.+$/.test(value);

const nodeNameError = `must be ${nodeNameForm}`;

const listenAddress = z.string({ error: 'must be "ADDRESS:PORT"' }).transform((value, context) => {
  const parts = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value);
  const address = parts?.[1] ?? parts?.[2] ?? '';
  const port = Number(parts?.[3]);
  if (isIP(address) !== (parts?.[1] === undefined ? 4 : 6) || !(port <= 65_535)) {
    context.issues.push({
      code: 'custom',
      message:
        'must be "ADDRESS:PORT" with an IPv4 address or an IPv6 address in brackets, as in "0.0.0.0:443" or "[::]:443"',
      input: value,
    });
    return z.NEVER;
  }
  return { address, port };
});

/** Kept as written: other members dial it. */
const hostPort = z
  .string({ error: 'must be "HOST:PORT"' })
  .refine(isHostPort, { error: `must be ${hostPortForm}` });

/**
 * Every section and key of the configuration file, with its range and default. `directory`: where the file lies, for
 * the relative paths in it.
 */
export function configShape(directory: string) {
  const path = (error = 'must be a path') => pathText(error).transform((value) => resolve(directory, value));
  const keyError = 'must be the path of a PEM file or "credential:NAME"';
  const privateKey = () =>
    pathText(keyError)
      .refine((value) => !value.startsWith('credential:') || isCredential(value), {
        error: `${keyError} with letters, digits, ".", "_" and "-" in the name`,
      })
      .transform((value) => (value.startsWith('credential:') ? value : resolve(directory, value)));
  return {
    node: {
      name: z
        .string({ error: nodeNameError })
        .refine(isNodeName, { error: nodeNameError })
        .prefault(hostname)
        .describe("This node's name in the cluster. Default: the host's name."),
      data_dir: path().default('/var/lib/xksd').describe('Durable log, identity, record of refused PINs.'),
      runtime_dir: path().default('/run/xksd').describe('Sockets.'),
    },
    xks: {
      listen: listenAddress.prefault('0.0.0.0:443').describe('Where KMS or the load balancer connects.'),
      tls_certificate: path('must be the path of a PEM file').describe('PEM, leaf first, full chain.'),
      tls_private_key: privateKey().describe('PEM, or `credential:NAME` for a systemd credential.'),
      mtls_ca: path().optional().describe('Client certificates must chain to one of these (PEM).'),
      mtls_subject: text('must be a subject name')
        .optional()
        .describe('Subject that a client must have (X-T3).'),
      request_deadline_ms: integer(20, 10_000)
        .default(150)
        .describe('From the last byte of a request to its answer. KMS gives up after 250 ms.'),
      connections_max: integer(1, 100_000).default(2_000).describe('Per serving process.'),
      keep_alive_seconds: integer(5, 86_400)
        .default(365)
        .describe("Longer than the load balancer's idle timeout (NLB 350 s, ALB 60 s)."),
      connection_age_max_seconds: integer(10, 604_800)
        .default(3_600)
        .describe('Give or take 10 %; then the client is asked to reconnect, so that load spreads.'),
    },
    health: {
      listen: listenAddress.prefault('0.0.0.0:8080').describe('Plain HTTP, for load balancers.'),
    },
    metrics: {
      listen: listenAddress.prefault('127.0.0.1:9464').describe('Plain HTTP, for Prometheus.'),
    },
    admin: {
      socket: path().optional().describe('Default: `admin.sock` in `[node] runtime_dir`.'),
    },
    cluster: {
      listen: listenAddress
        .prefault('0.0.0.0:7443')
        .describe('Where the other members connect: gRPC, TLS 1.3.'),
      advertise: hostPort.describe('Where they find it: `HOST:PORT`.'),
      ca: path('must be the path of a PEM file').describe(
        "Issuers of the members' certificates; both while one replaces the other.",
      ),
      certificate: path('must be the path of a PEM file').describe(
        "PEM, leaf first. Its alternative names hold DNS:NAME with this node's name; good for server and client.",
      ),
      private_key: privateKey().describe('PEM, or `credential:NAME` for a systemd credential.'),
    },
    serving: {
      processes: integer(1, 64)
        .default(defaultServingProcesses)
        .describe('Default: cores − 1, within 2 to 8.'),
      drain_seconds: integer(0, 600)
        .default(60)
        .describe('How long to go on accepting, while unhealthy, before stopping.'),
    },
    hsm: {
      uri: text('must be a pkcs11: URI (RFC 7512)')
        .startsWith('pkcs11:', { error: 'must be a pkcs11: URI (RFC 7512)' })
        .describe(
          'As in `pkcs11:token=xks?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/xksd/pin`, or `module-name=softhsm2` as p11-kit knows it.',
        ),
      init_args: z
        .string({ error: 'must be a string' })
        .default('')
        .describe('What C_Initialize gets as LibraryParameters (NSS wants them).'),
      profile: z
        .enum(hsmProfiles, {
          error: `must be ${hsmProfiles.map((name) => `"${name}"`).join(', ')}`,
        })
        .default('auto')
        .describe(
          'What kind of HSM it is, where that has to be known before it can be probed: who makes the IVs, and how the module is asked.',
        ),
      workers: integer(1, 16)
        .default(1)
        .describe('Piscina workers of a serving process, each with one session at work at least.'),
      sessions_max: integer(1, sessionsMaxLimit)
        .optional()
        .describe(
          'Most sessions of this node for cryptography, divided over its serving processes. As many are opened as the token is slow. Default: 64 for each worker.',
        ),
    },
    log: {
      level: z
        .enum(['debug', 'info', 'warn', 'error'], { error: 'must be "debug", "info", "warn" or "error"' })
        .default('info'),
      trace_pkcs11: z
        .boolean({ error: 'must be true or false' })
        .default(false)
        .describe(
          'A line for every PKCS#11 call of the serving processes, as `xksd run --trace-pkcs11` does; never data or the PIN. Needs level info.',
        ),
    },
  };
}

/** The file's keys in, the process's names out. */
export function configSchema(directory: string) {
  const shape = configShape(directory);
  const error = 'must be a section';
  return z
    .strictObject({
      node: z.strictObject(shape.node, { error }).prefault({}),
      xks: z
        .strictObject(shape.xks, { error })
        .refine((xks) => (xks.mtls_ca === undefined) === (xks.mtls_subject === undefined), {
          error:
            'mtls_ca and mtls_subject go together: give both, or neither to accept clients without certificates',
        }),
      health: z.strictObject(shape.health, { error }).prefault({}),
      metrics: z.strictObject(shape.metrics, { error }).prefault({}),
      admin: z.strictObject(shape.admin, { error }).prefault({}),
      cluster: z.strictObject(shape.cluster, { error }).optional(),
      serving: z.strictObject(shape.serving, { error }).prefault({}),
      hsm: z
        .array(z.strictObject(shape.hsm, { error }), { error: 'must be written [[hsm]], one for each token' })
        .max(hsmsMax, { error: `at most ${hsmsMax} [[hsm]] sections` })
        .prefault([]),
      log: z.strictObject(shape.log, { error }).prefault({}),
    })
    .superRefine(({ serving, hsm }, context) => {
      for (const [index, { workers, sessions_max }] of hsm.entries()) {
        const least = serving.processes * workers;
        if (sessions_max === undefined || sessions_max >= least) continue;
        context.addIssue({
          code: 'custom',
          path: ['hsm', index, 'sessions_max'],
          message: `must be at least ${least}: each worker of each serving process has a session`,
        });
      }
    })
    .transform(({ node, xks, health, metrics, admin, cluster, serving, hsm, log }) => ({
      node: { name: node.name, dataDir: node.data_dir, runtimeDir: node.runtime_dir },
      xks: {
        listen: xks.listen,
        tlsCertificate: xks.tls_certificate,
        tlsPrivateKey: xks.tls_private_key,
        mtls:
          xks.mtls_ca === undefined || xks.mtls_subject === undefined
            ? null
            : { ca: xks.mtls_ca, subject: xks.mtls_subject },
        requestDeadlineMs: xks.request_deadline_ms,
        connectionsMax: xks.connections_max,
        keepAliveSeconds: xks.keep_alive_seconds,
        connectionAgeMaxSeconds: xks.connection_age_max_seconds,
      },
      health,
      metrics,
      admin: { socket: admin.socket ?? resolve(node.runtime_dir, 'admin.sock') },
      /** `null`: a cluster of one, which nobody can join. */
      cluster:
        cluster === undefined
          ? null
          : {
              listen: cluster.listen,
              advertise: cluster.advertise,
              ca: cluster.ca,
              certificate: cluster.certificate,
              privateKey: cluster.private_key,
            },
      serving: { processes: serving.processes, drainSeconds: serving.drain_seconds },
      hsm: hsm.map(({ uri, init_args, profile, workers, sessions_max }) => ({
        uri,
        initArgs: init_args,
        profile,
        workers,
        /** Of each worker. */
        sessionsMax: sessionsOfAWorker(sessions_max, serving.processes * workers),
      })),
      log: { level: log.level, tracePkcs11: log.trace_pkcs11 },
    }));
}
