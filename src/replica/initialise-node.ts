import { statSync } from 'node:fs';
import { encodeHex } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { systemRandom } from '../base/random.js';
import { err, ok, type Result } from '../base/result.js';
import type { ClusterConfig, Config } from '../ops/config.js';
import { credentialPrefix, loadClusterTlsFiles } from '../ops/tls-files.js';
import { initialiseDataDirectory } from '../replication/data-directory.js';
import { systemFiles } from '../replication/file-operations.js';
import type { Identity } from '../replication/identity-file.js';
import { parseJoinToken } from './join-token.js';

type NodeConfig = Pick<Config, 'node' | 'cluster'>;

const idBytes = 16;

/**
 * Makes this node the first of a new cluster (`xksctl cluster init`): its data directory with a random cluster id and
 * member id. The replica puts them into key state when it first starts.
 *
 * @returns a sentence for the operator when it cannot be done.
 */
export function initialiseFounder(config: NodeConfig): Promise<Result<Identity, string>> {
  return initialise(config, {
    nodeName: config.node.name,
    clusterId: encodeHex(systemRandom.bytes(idBytes)),
    memberId: encodeHex(systemRandom.bytes(idBytes)),
    role: 'founder',
  });
}

/**
 * Makes this node a member-to-be of a cluster (`xksctl cluster join`), as the token says. It joins when its replica
 * first starts.
 *
 * @returns a sentence for the operator when it cannot be done. Never holds the token.
 */
export async function initialiseJoiner(
  config: NodeConfig,
  tokenText: string,
): Promise<Result<Identity, string>> {
  const token = parseJoinToken(tokenText);
  if (!token.ok) return token;
  const { nodeName, clusterId, memberId, secret, peers } = token.value;
  if (nodeName !== config.node.name) {
    return err(
      `the join token is for a node named "${nodeName}", and this one is "${config.node.name}" ([node] name): a token is good for the node it was made for`,
    );
  }
  if (config.cluster === null) {
    return err('the configuration has no [cluster] section: without it the other nodes cannot be reached');
  }
  const unusable = clusterTlsProblem(config.cluster, nodeName);
  if (unusable !== null) return err(unusable);
  const join = { joinSecret: secret, peers };
  return initialise(config, { nodeName, clusterId, memberId, role: 'joiner', join });
}

/** Better here than when xksd starts. What systemd hands over only to xksd's own process cannot be looked at. */
function clusterTlsProblem(cluster: ClusterConfig, nodeName: string): string | null {
  if (cluster.privateKey.startsWith(credentialPrefix)) return null;
  const files = loadClusterTlsFiles({ ...cluster, nodeName, nowMs: systemClock.wallMs() });
  return files.ok ? null : `[cluster] ${files.error}`;
}

async function initialise({ node }: NodeConfig, identity: Identity): Promise<Result<Identity, string>> {
  const foreign = foreignOwner(node.dataDir, 'cluster init');
  if (foreign !== null) return err(foreign);
  const made = await initialiseDataDirectory({ ...identity, dir: node.dataDir, files: systemFiles });
  return made.ok ? ok(identity) : err(made.error.message);
}

/** What root puts into another user's directory, that user cannot open. */
export function foreignOwner(dataDir: string, command: string): string | null {
  const owner = statSync(dataDir, { throwIfNoEntry: false })?.uid;
  const user = process.geteuid?.();
  if (owner === undefined || user === undefined || owner === user) return null;
  return (
    `the data directory ${dataDir} belongs to uid ${owner}, and this command runs as uid ${user}: ` +
    `run it as the user that xksd runs as, e.g. \`runuser -u xksd -- xksctl ${command} --config …\``
  );
}
