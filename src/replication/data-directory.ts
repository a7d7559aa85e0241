import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { errorText, isJsonObject } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';
import { type FileOperations, isErrno, type OpenFile } from './file-operations.js';
import { chainStart } from './log-record.js';
import { createSegment } from './segment-file.js';

/** Of the directory as a whole; segments and snapshots carry their own. */
const format = 1;
const identityName = 'identity.json';
const lockName = 'lock';
const logName = 'log';
const snapshotsName = 'snapshots';

const ewouldblock = 11;

/** Who a data directory belongs to. */
export interface Identity {
  readonly nodeName: string;
  readonly clusterId: string;
  /** Ours in that cluster: a wiped node that joins again gets another. */
  readonly memberId: string;
}

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
  /** Gives up the lock. */
  close(): Promise<void>;
}

/**
 * Makes the data directory of a new member: directory, first log segment, identity, in this order, so that an
 * interrupted attempt is seen as one.
 */
export async function initialiseDataDirectory(
  options: Identity & { readonly dir: string; readonly files: FileOperations },
): Promise<Result<null, DataDirectoryError>> {
  const { dir, files } = options;
  try {
    const info = await files.stat(dir);
    const obstacle =
      info === null ? await makeDirectory(files, dir) : await emptyDirectoryProblem(files, dir);
    if (obstacle !== null) return err({ message: obstacle });
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
    return `the data directory ${dir} does not exist: make this node a cluster with "xksctl cluster init"`;
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
 * @param options.nodeName as configured: a directory copied from another node is refused.
 */
export async function openDataDirectory(options: {
  readonly dir: string;
  readonly nodeName: string;
  readonly files: FileOperations;
  readonly tryLockFile: (fd: number) => number;
  /** Of this process: what the next one that finds the directory locked is told. */
  readonly pid: number;
}): Promise<Result<DataDirectory, DataDirectoryError>> {
  const { dir, files } = options;
  let lock: OpenFile | null = null;
  try {
    const problem = (await directoryProblem(files, dir)) ?? (await contentProblem(files, dir));
    if (problem !== null) return err({ message: problem });
    lock = await openLock(files, join(dir, lockName));
    const taken = await takeLock(lock, dir, options);
    const identity = taken.ok ? await readIdentity(files, dir, options.nodeName) : taken;
    if (!identity.ok) {
      await lock.close();
      return err({ message: identity.error });
    }
    const held = lock;
    return ok({
      path: dir,
      logPath: join(dir, logName),
      snapshotsPath: join(dir, snapshotsName),
      identity: identity.value,
      files,
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

/** Whether the directory holds what `initialiseDataDirectory` made. */
async function contentProblem(files: FileOperations, dir: string): Promise<string | null> {
  const names = (await files.list(dir)).filter((name) => !isForeignName(name));
  if (names.length === 0) {
    return `the data directory ${dir} is empty: make this node a cluster with "xksctl cluster init"`;
  }
  if (!names.includes(identityName)) {
    return names.every((name) => [logName, snapshotsName, lockName, `${identityName}.tmp`].includes(name))
      ? `the data directory ${dir} has no ${identityName}: "xksctl cluster init" was interrupted there, or the file was lost. If this node has never served, empty the directory and run it again; else restore the directory from a backup`
      : `${dir} is not a data directory of xksd: it has no ${identityName}`;
  }
  const missing = [logName, snapshotsName].find((name) => !names.includes(name));
  return missing === undefined
    ? null
    : `the data directory ${dir} has no ${missing}/: restore the directory from a backup`;
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

/** What the checksum is over; also the order of the file. */
const identityFields = (identity: Identity): object => ({
  format,
  nodeName: identity.nodeName,
  clusterId: identity.clusterId,
  memberId: identity.memberId,
});

function encodeIdentity(identity: Identity): string {
  const fields = identityFields(identity);
  const checksum = createHash('sha256').update(JSON.stringify(fields)).digest('hex');
  return `${JSON.stringify({ ...fields, checksum }, null, 2)}\n`;
}

async function writeIdentity(files: FileOperations, dir: string, identity: Identity): Promise<void> {
  const path = join(dir, identityName);
  const temporary = `${path}.tmp`;
  const file = await files.open(temporary, 'create');
  await file.write(0, Buffer.from(encodeIdentity(identity), 'utf8'));
  await file.dataSync();
  await file.close();
  await files.rename(temporary, path);
  await files.syncDirectory(dir);
}

async function readIdentity(
  files: FileOperations,
  dir: string,
  nodeName: string,
): Promise<Result<Identity, string>> {
  const path = join(dir, identityName);
  const file = await files.open(path, 'read');
  const text = (await file.readAll()).toString('utf8');
  await file.close();
  const restore = `restore ${basename(path)} from a backup of this node`;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return err(`${path} is damaged: it is not JSON; ${restore}`);
  }
  if (!isJsonObject(json)) return err(`${path} is damaged: it is not an object; ${restore}`);
  const { format: found, nodeName: owner, clusterId, memberId } = json;
  if (typeof found === 'number' && found !== format) {
    return err(
      `${path} has format ${found} and this version of xksd reads format ${format}: the data directory was written by another version, so install that one`,
    );
  }
  if (typeof owner !== 'string' || typeof clusterId !== 'string' || typeof memberId !== 'string') {
    return err(`${path} is damaged: a field is missing; ${restore}`);
  }
  const identity: Identity = { nodeName: owner, clusterId, memberId };
  if (encodeIdentity(identity) !== text) {
    return err(`${path} is damaged: it does not match its checksum; ${restore}`);
  }
  return owner === nodeName
    ? ok(identity)
    : err(
        `the data directory ${dir} belongs to node "${owner}", and this node is "${nodeName}": set [node] name to "${owner}", or [node] data_dir to this node's own directory`,
      );
}
