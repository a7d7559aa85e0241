/** From the least that any proxy does to the whole of ours; each rung does what the one before does, and one thing more. */
export const rungs = [
  { name: 'node', what: 'TLS and JSON echo by Node’s own HTTP server' },
  { name: 'http', what: 'our HTTP layer: both versions, limits, deadlines' },
  { name: 'sigv4', what: 'SigV4 verified' },
  { name: 'pipeline', what: 'parsed, key state looked up, policy, answer built' },
  { name: 'piscina', what: 'to a worker thread and back, past a token that does nothing' },
  { name: 'token', what: 'SoftHSM2: encrypt, integrity value, verifying decrypt' },
  { name: 'records', what: 'request log and metrics' },
] as const;

export type RungName = (typeof rungs)[number]['name'];

/** What a rung's process is told. */
export interface RungOrder {
  readonly rung: RungName;
  /** PEM. */
  readonly certificate: string;
  readonly key: string;
  readonly token: LadderToken;
}

/** A token with a key on it. Its environment was given to the process. */
export interface LadderToken {
  readonly modulePath: string;
  readonly label: string;
  readonly pin: string;
  /** CKA_ID, hexadecimal. */
  readonly objectId: string;
}

/** Whom the rungs let in, and to which key. */
export const ladderAccess = {
  uriPathPrefix: 'bench/ladder',
  keyId: 'bench-key',
  region: 'us-east-1',
  accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA2',
  secretAccessKey: 'ladder+secret/abcdefghijklmnopqrstuvwxyz01234567',
} as const;
