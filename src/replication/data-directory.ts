import { dirname, join } from 'node:path';
import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { ballastBytesDefault, ballastName, ballastRoomProblem, ensureBallast } from './ballast.js';
import { type FileOperations, isErrno, type OpenFile } from './file-operations.js';
import { type Identity, identityName, readIdentity, writeIdentity } from './identity-file.js';
import { wayBack } from './log-damage.js';
import { chainStart } from './log-record.js';
import { createSegment } from './segment-file.js';

const lockName = 'lock';
const logName = 'log';
const snapshotsName = 'snapshots';

/** Where segments and snapshots lie. A recovery makes both anew beside the old ones; the identity says which count. */
const placesOf = ({ recoveries = 0 }: Identity): { readonly log: string; readonly snapshots: string } =>
  recoveries === 0
    ? { log: logName, snapshots: snapshotsName }
    : { log: `${logName}-${recoveries}`, snapshots: `${snapshotsName}-${recoveries}` };

const temporaryNames = [identityName, ballastName].map((name) => `${name}.tmp`);

const ewouldblock = 11;

export interface DataDirectoryError {
  /** For the operator: what is in the way, and what to do. */
  readonly message: string;
}

/** A data directory that is ours alone until `close`. */
export interface DataDirectory {
  readonly path: string;
  readonly logPath: string;
  readonly snapshotsPath: string;
  readonly identity: Identity;
  readonly files: FileOperations;
  /** For the operator. */
  readonly warnings: readonly string[];
  /** Gives up the lock. */
  close(): Promise<void>;
}

/** The same directory as `identity` has it, whether that is there yet or not. */
export function directoryAs(directory: DataDirectory, identity: Identity): DataDirectory {
  const { log, snapshots } = placesOf(identity);
  const { path } = directory;
  return { ...directory, identity, logPath: join(path, log), snapshotsPath: join(path, snapshots) };
}

/**
 * Makes the data directory of a new member: directory, first log segment, ballast, identity, in this order, so that
 * an interrupted attempt is seen as one.
 */
export async function initialiseDataDirectory(
  options: Identity & {
    readonly dir: string;
    readonly files: FileOperations;
    readonly ballastBytes?: number;
  },
): Promise<Result<null, DataDirectoryError>> {
  const { dir, files, ballastBytes = ballastBytesDefault } = options;
  try {
    const info = await files.stat(dir);
    const obstacle =
      info === null ? await makeDirectory(files, dir) : await emptyDirectoryProblem(files, dir);
    if (obstacle !== null) return err({ message: obstacle });
    // Before anything is made: with more room the next try finds the directory empty.
    const roomProblem = await ballastRoomProblem(files, dir, ballastBytes);
    if (roomProblem !== null) throw new Error(roomProblem);
    await files.makeDirectory(join(dir, logName));
    await files.makeDirectory(join(dir, snapshotsName));
    const { file } = await createSegment(files, join(dir, logName), {
      clusterId: options.clusterId,
      segment: 1,
      firstIndex: 1,
      position: chainStart,
    });
    await file.close();
    await (await files.open(join(dir, lockName), 'create')).close();
    await files.syncDirectory(dir);
    await ensureBallast(files, dir, ballastBytes);
    await writeIdentity(files, dir, options);
    return ok(null);
  } catch (error) {
    return err({ message: `cannot initialise the data directory ${dir}: ${errorText(error)}` });
  }
}

async function makeDirectory(files: FileOperations, dir: string): Promise<string | null> {
  const parent = dirname(dir);
  if ((await files.stat(parent)) === null) {
    return `cannot make the data directory ${dir}: ${parent} does not exist`;
  }
  await files.makeDirectory(dir);
  await files.syncDirectory(parent);
  return null;
}

/** A mount point has the first; the record of refused PINs may be there before the log. */
const isForeignName = (name: string): boolean => name === 'lost+found' || name.startsWith('pin-');

async function emptyDirectoryProblem(files: FileOperations, dir: string): Promise<string | null> {
  const problem = await directoryProblem(files, dir);
  if (problem !== null) return problem;
  const names = (await files.list(dir)).filter((name) => !isForeignName(name)).sort();
  if (names.includes(identityName)) {
    return `${dir} is a data directory already: start xksd on it, or choose another with [node] data_dir`;
  }
  if (names.length === 0) return null;
  return `${dir} is not empty (it holds ${names.slice(0, 5).join(', ')}): give a new node an empty data directory`;
}

async function directoryProblem(files: FileOperations, dir: string): Promise<string | null> {
  const info = await files.stat(dir);
  if (info === null) {
    return `the data directory ${dir} does not exist: make this node a cluster with "xksctl cluster init", or join one with "xksctl cluster join" (a node that was a member before is removed there and added anew)`;
  }
  if (info.kind !== 'directory') return `${dir} is not a directory: set [node] data_dir to one`;
  if ((info.mode & 0o077) !== 0) {
    return `the data directory ${dir} has mode ${info.mode.toString(8).padStart(4, '0')}: only its owner may enter it; run: chmod 700 ${dir}`;
  }
  return null;
}

/**
 * Opens a data directory and locks it.
 *
 * @param options.tryLockFile flock(2) without waiting: 0 or an errno.
 * @param options.nodeName as configured: a directory copied from another node is refused; `null` takes any.
 */
export async function openDataDirectory(options: {
  readonly dir: string;
  readonly nodeName: string | null;
  readonly files: FileOperations;
  readonly tryLockFile: (fd: number) => number;
  /** Of this process: what the next one that finds the directory locked is told. */
  readonly pid: number;
  readonly ballastBytes?: number;
}): Promise<Result<DataDirectory, DataDirectoryError>> {
  const { dir, files, ballastBytes = ballastBytesDefault } = options;
  let lock: OpenFile | null = null;
  try {
    const problem = (await directoryProblem(files, dir)) ?? (await contentProblem(files, dir));
    if (problem !== null) return err({ message: problem });
    lock = await openLock(files, join(dir, lockName));
    const taken = await takeLock(lock, dir, options);
    const read = taken.ok ? await readIdentity(files, dir, options.nodeName) : taken;
    const identity = read.ok ? await withPlaces(files, dir, read.value) : read;
    if (!identity.ok) {
      await lock.close();
      return err({ message: identity.error });
    }
    const held = lock;
    const { log, snapshots } = placesOf(identity.value);
    return ok({
      path: dir,
      logPath: join(dir, log),
      snapshotsPath: join(dir, snapshots),
      identity: identity.value,
      files,
      warnings: await ballastWarnings(files, dir, ballastBytes),
      close: () => held.close(),
    });
  } catch (error) {
    await lock?.close().catch(() => {});
    const hint = isErrno(error, 'EACCES')
      ? `; it must belong to the user that xksd runs as (chown -R that user ${dir})`
      : '';
    return err({ message: `cannot open the data directory ${dir}: ${errorText(error)}${hint}` });
  }
}

/** A node without ballast serves all the same: it only has less to fall back on. */
async function ballastWarnings(files: FileOperations, dir: string, ballastBytes: number): Promise<string[]> {
  try {
    await ensureBallast(files, dir, ballastBytes);
    return [];
  } catch (error) {
    return [
      `${join(dir, ballastName)} could not be made: ${errorText(error)}. Free some space on that disk: without this reserve a full disk is harder to recover from`,
    ];
  }
}

/**
 * Key state holds this node as a member: from now on it founds nothing. A log that comes back empty, from a backup of its
 * first moments for one, must not elect itself in a cluster of its own. Rejects with the system's error.
 *
 * @returns the identity as it is now.
 */
export async function settleFounder({ files, path, identity }: DataDirectory): Promise<Identity> {
  if (identity.role !== 'founder') return identity;
  const settled: Identity = { ...identity, role: 'member' };
  await writeIdentity(files, path, settled);
  return settled;
}

/**
 * The secret of a join token is of use once. Rejects with the system's error.
 *
 * @returns the identity as it is now.
 */
export async function eraseJoinSecret({ files, path, identity }: DataDirectory): Promise<Identity> {
  if (identity.role !== 'joiner' || identity.join.joinSecret === null) return identity;
  const erased: Identity = { ...identity, join: { ...identity.join, joinSecret: null } };
  await writeIdentity(files, path, erased);
  return erased;
}

/** Whether the directory holds what `initialiseDataDirectory` made. */
async function contentProblem(files: FileOperations, dir: string): Promise<string | null> {
  const names = (await files.list(dir)).filter((name) => !isForeignName(name));
  if (names.length === 0) {
    return `the data directory ${dir} is empty: make this node a cluster with "xksctl cluster init", or join one with "xksctl cluster join" (a node that was a member before is removed there and added anew)`;
  }
  if (!names.includes(identityName)) {
    const unfinished = [logName, snapshotsName, lockName, ballastName, ...temporaryNames];
    return names.every((name) => unfinished.includes(name))
      ? `the data directory ${dir} has no ${identityName}: "xksctl cluster init" was interrupted there, or the file was lost. If this node has never served, empty the directory and run it again; if it has, what was in it is lost. ${wayBack}`
      : `${dir} is not a data directory of xksd: it has no ${identityName}`;
  }
  return null;
}

async function withPlaces(
  files: FileOperations,
  dir: string,
  identity: Identity,
): Promise<Result<Identity, string>> {
  const names = await files.list(dir);
  const missing = Object.values(placesOf(identity)).find((name) => !names.includes(name));
  return missing === undefined
    ? ok(identity)
    : err(`the data directory ${dir} has no ${missing}/. ${wayBack}`);
}

async function openLock(files: FileOperations, path: string): Promise<OpenFile> {
  const exists = (await files.stat(path)) !== null;
  return files.open(path, exists ? 'write' : 'create');
}

async function takeLock(
  lock: OpenFile,
  dir: string,
  { tryLockFile, pid }: { readonly tryLockFile: (fd: number) => number; readonly pid: number },
): Promise<Result<null, string>> {
  const errno = tryLockFile(lock.fd);
  if (errno === 0) {
    try {
      await lock.truncate(0);
      await lock.write(0, Buffer.from(`${pid}\n`));
    } catch {
      // A full disk. The lock holds without it; only the next one's message will not say who has it.
    }
    return ok(null);
  }
  if (errno !== ewouldblock) return err(`cannot lock the data directory ${dir}: errno ${errno}`);
  const holder = /^[0-9]{1,10}/.exec((await lock.readAll()).toString('latin1'))?.[0];
  const who = holder === undefined ? 'another process' : `process ${holder}`;
  return err(`the data directory ${dir} is in use by ${who}: one xksd at a time may have it`);
}
