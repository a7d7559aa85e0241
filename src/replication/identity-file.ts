import { join } from 'node:path';
import { isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { decodeChecksummed, encodeChecksummed } from './checksummed-json.js';
import type { FileOperations } from './file-operations.js';
import { wayBack } from './log-damage.js';
import { replaceFile } from './replaced-file.js';

export const identityName = 'identity.json';

/** 1: a cluster of one, whose only member founded it. 3: the log is one that a recovery made; 2 knows of none. */
const formatMax = 3;

export interface PeerAddress {
  /** Node name. */
  readonly name: string;
  /** `host:port` */
  readonly address: string;
}

/** How a node that was added finds the cluster and shows that it may join. */
export interface Join {
  /** Of its one-time token; `null` once it has joined. */
  readonly joinSecret: string | null;
  /** To ask first. */
  readonly peers: readonly PeerAddress[];
}

interface Owner {
  readonly nodeName: string;
  readonly clusterId: string;
  /** Ours in that cluster: a wiped node that joins again gets another. */
  readonly memberId: string;
  /** How often a recovery from lost quorum put another log into this directory's place; not there when never. */
  readonly recoveries?: number;
}

/** Who a data directory belongs to. */
export type Identity = Owner &
  (
    | { /** Made the cluster: its only member until key state says more. */ readonly role: 'founder' }
    | {
        /** Key state has said who the members are: who has none any more has lost it. */ readonly role: 'member';
      }
    | { readonly role: 'joiner'; readonly join: Join }
  );

/** What the checksum is over; also the order of the file. */
function identityFields(identity: Identity): object {
  const { nodeName, clusterId, memberId, role, recoveries } = identity;
  const owner = { nodeName, clusterId, memberId, role };
  const fields =
    recoveries === undefined ? { format: 2, ...owner } : { format: formatMax, ...owner, recoveries };
  if (identity.role !== 'joiner') return fields;
  const { joinSecret, peers } = identity.join;
  return { ...fields, join: { joinSecret, peers: peers.map(({ name, address }) => ({ name, address })) } };
}

/** Rejects with the system's error. */
export async function writeIdentity(files: FileOperations, dir: string, identity: Identity): Promise<void> {
  const text = encodeChecksummed(identityFields(identity));
  await replaceFile(files, dir, identityName, [Buffer.from(text, 'utf8')]);
}

/**
 * Reads the identity in a data directory; rejects with the system's error.
 *
 * @param nodeName as configured; `null` takes any node's.
 * @returns a sentence for the operator when it is damaged, of another format or another node's.
 */
export async function readIdentity(
  files: FileOperations,
  dir: string,
  nodeName: string | null,
): Promise<Result<Identity, string>> {
  const path = join(dir, identityName);
  const file = await files.open(path, 'read');
  const text = (await file.readAll()).toString('utf8');
  await file.close();
  const found = formatOf(text);
  if (found !== null && (found < 1 || found > formatMax)) {
    return err(
      `${path} has format ${found} and this version of xksd reads format ${formatMax}: the data directory was written by another version, so install that one`,
    );
  }
  const fields = decodeChecksummed(text);
  if (!fields.ok) return err(`${path} is damaged: ${fields.error}. ${wayBack}`);
  const identity = identityOf(fields.value);
  if (identity === null) return err(`${path} is damaged: a field is missing. ${wayBack}`);
  const owner = identity.nodeName;
  return nodeName === null || owner === nodeName
    ? ok(identity)
    : err(
        `the data directory ${dir} belongs to node "${owner}", and this node is "${nodeName}": set [node] name to "${owner}", or [node] data_dir to this node's own directory`,
      );
}

/** Before the checksum counts: another version may compute it otherwise. */
function formatOf(text: string): number | null {
  try {
    const json: unknown = JSON.parse(text);
    return isJsonObject(json) && typeof json['format'] === 'number' ? json['format'] : null;
  } catch {
    return null;
  }
}

/** `null` when a field is missing or of another type. */
function identityOf(fields: Readonly<Record<string, unknown>>): Identity | null {
  const { format, nodeName, clusterId, memberId, role, recoveries, join: found } = fields;
  if (typeof nodeName !== 'string' || typeof clusterId !== 'string' || typeof memberId !== 'string') {
    return null;
  }
  const counts = typeof recoveries === 'number' && Number.isSafeInteger(recoveries) && recoveries > 0;
  if (counts !== (format === 3)) return null;
  const owner = { nodeName, clusterId, memberId, ...(counts && { recoveries }) };
  if (format === 1 || role === 'founder') return { ...owner, role: 'founder' };
  if (role === 'member') return { ...owner, role };
  const joining = joinOf(found);
  return role === 'joiner' && joining !== null ? { ...owner, role, join: joining } : null;
}

function joinOf(found: unknown): Join | null {
  if (!isJsonObject(found)) return null;
  const { joinSecret, peers } = found;
  if ((joinSecret !== null && typeof joinSecret !== 'string') || !Array.isArray(peers)) return null;
  const addresses: PeerAddress[] = [];
  for (const peer of peers as readonly unknown[]) {
    if (!isJsonObject(peer)) return null;
    const { name, address } = peer;
    if (typeof name !== 'string' || typeof address !== 'string') return null;
    addresses.push({ name, address });
  }
  return { joinSecret, peers: addresses };
}
