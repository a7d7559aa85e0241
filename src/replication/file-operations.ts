import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, stat, statfs, unlink } from 'node:fs/promises';
import { syncDirectory } from '../base/directory-sync.js';

export interface FileInfo {
  readonly kind: 'file' | 'directory' | 'other';
  /** Permission bits, as chmod(1) takes them. */
  readonly mode: number;
  readonly sizeBytes: number;
}

/** What is known of how a file is opened: `create` fails when it exists, the others when it doesn't. */
export type OpenMode = 'read' | 'write' | 'create';

/** Every method rejects with the system's error (`code`, `syscall`); after that nothing is known of what was done. */
export interface OpenFile {
  /** For flock(2). */
  readonly fd: number;
  /** All of the file. */
  readAll(): Promise<Buffer>;
  /** Writes all of `bytes` at `position`. */
  write(position: number, bytes: Uint8Array): Promise<void>;
  truncate(length: number): Promise<void>;
  /** fdatasync(2): what was written survives a crash, and the size with it. */
  dataSync(): Promise<void>;
  close(): Promise<void>;
}

/**
 * The file system as the durable log sees it: everything that it does to a disk. Injected, so that tests can record
 * every operation and crash between any two of them. Nothing waits in the calling thread.
 */
export interface FileOperations {
  /** Files are created with mode 0600. */
  open(path: string, mode: OpenMode): Promise<OpenFile>;
  /** `null` when nothing is there. */
  stat(path: string): Promise<FileInfo | null>;
  /** Names in a directory, in no order. */
  list(path: string): Promise<string[]>;
  /** Mode 0700. Fails when the path exists or its parent doesn't. */
  makeDirectory(path: string): Promise<void>;
  /** Replaces `to` in one step. Survives a crash after `syncDirectory` of both parents. */
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** fsync(2) of a directory: its entries survive a crash. */
  syncDirectory(path: string): Promise<void>;
  /** Bytes that this process may still write to the file system that holds `path`. */
  freeBytes(path: string): Promise<number>;
}

const openFlags: Record<OpenMode, number> = {
  read: constants.O_RDONLY,
  write: constants.O_RDWR,
  create: constants.O_RDWR | constants.O_CREAT | constants.O_EXCL,
};

class SystemFile implements OpenFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  get fd(): number {
    return this.#handle.fd;
  }

  readAll(): Promise<Buffer> {
    return this.#handle.readFile();
  }

  async write(position: number, bytes: Uint8Array): Promise<void> {
    let written = 0;
    while (written < bytes.byteLength) {
      const rest = bytes.byteLength - written;
      written += (await this.#handle.write(bytes, written, rest, position + written)).bytesWritten;
    }
  }

  truncate(length: number): Promise<void> {
    return this.#handle.truncate(length);
  }

  dataSync(): Promise<void> {
    return this.#handle.datasync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** The real one. */
export const systemFiles: FileOperations = {
  async open(path, mode) {
    return new SystemFile(await open(path, openFlags[mode], 0o600));
  },

  async stat(path) {
    try {
      const info = await stat(path);
      const kind = info.isFile() ? 'file' : info.isDirectory() ? 'directory' : 'other';
      return { kind, mode: info.mode & 0o7777, sizeBytes: info.size };
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return null;
      throw error;
    }
  },

  list: (path) => readdir(path),

  async makeDirectory(path) {
    await mkdir(path, { mode: 0o700 });
  },

  rename,

  remove: unlink,

  syncDirectory,

  async freeBytes(path) {
    const { bavail, bsize } = await statfs(path);
    return bavail * bsize;
  },
};

/** Whether what was thrown is that error of the system. */
export const isErrno = (thrown: unknown, code: string): boolean =>
  thrown instanceof Error && 'code' in thrown && thrown.code === code;
