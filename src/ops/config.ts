/** The configuration of a node, as read from its TOML file: defaults filled in, paths absolute, secrets not yet read. */
export interface Config {
  readonly node: {
    /** `[node] name`: this node's name in the cluster. */
    readonly name: string;
    /** `[node] data_dir`: durable log, identity, PIN-refusal record. */
    readonly dataDir: string;
    /** `[node] runtime_dir`: the state socket. */
    readonly runtimeDir: string;
  };
  readonly xks: {
    /** `[xks] listen = "0.0.0.0:443"`; IPv6 in brackets. */
    readonly listen: ListenAddress;
    /** `[xks] tls_certificate`: PEM, leaf first, full chain. */
    readonly tlsCertificate: string;
    /** `[xks] tls_private_key`: PEM path, or `credential:NAME` for `$CREDENTIALS_DIRECTORY/NAME`. */
    readonly tlsPrivateKey: string;
    /** `[xks] mtls_ca` and `mtls_subject` (X-T3): both or neither. */
    readonly mtls: { readonly ca: string; readonly subject: string } | null;
    /** `[xks] request_deadline_ms` = 150, from the last byte of the body. 20–10,000. */
    readonly requestDeadlineMs: number;
    /** `[xks] connections_max` = 2,000 per serving process. */
    readonly connectionsMax: number;
    /** `[xks] keep_alive_seconds` = 365: longer than the load balancer's idle timeout (NLB 350 s). */
    readonly keepAliveSeconds: number;
    /** `[xks] connection_age_max_seconds` = 3600, jittered ±10%: then `Connection: close` or GOAWAY. */
    readonly connectionAgeMaxSeconds: number;
  };
  readonly health: { /** `[health] listen = "0.0.0.0:8080"`. */ readonly listen: ListenAddress };
  readonly metrics: { /** `[metrics] listen = "127.0.0.1:9464"`. */ readonly listen: ListenAddress };
  readonly admin: { /** `[admin] socket`, default `<runtime_dir>/admin.sock`. */ readonly socket: string };
  readonly serving: {
    /** `[serving] processes`; default: cores − 1, within 2–8. */
    readonly processes: number;
    /** `[serving] drain_seconds` = 60. 0–600. */
    readonly drainSeconds: number;
  };
  /** `[[hsm]]`: one today, more with the fleet. */
  readonly hsm: readonly HsmConfig[];
  readonly log: { /** `[log] level = "info"`: debug, info, warn, error. */ readonly level: LogLevel };
}

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

export interface ListenAddress {
  /** An IPv4 or IPv6 literal. */
  readonly address: string;
  /** 0: any free port. */
  readonly port: number;
}

export interface HsmConfig {
  /** RFC 7512: `pkcs11:token=xks?module-path=/…/libsofthsm2.so&pin-source=file:/etc/xksd/pin`. */
  readonly uri: string;
  /** `init_args`: CK_C_INITIALIZE_ARGS.LibraryParameters (NSS wants them); empty for none. */
  readonly initArgs: string;
  /** `workers` = 1: Piscina workers per serving process. */
  readonly workers: number;
  /** `sessions` = 1: sessions, each with a native thread when more than 1, per worker. */
  readonly sessions: number;
}

/** Where the replica listens for the serving processes of this node. */
export const stateSocketPath = (config: Config): string => `${config.node.runtimeDir}/state.sock`;
