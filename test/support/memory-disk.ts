import { basename, dirname } from 'node:path';
import type { FileInfo, FileOperations, OpenFile, OpenMode } from '../../src/replication/file-operations.js';
import type { SeededRandom } from './seeded-random.js';

const sectorBytes = 512;

/** What was done to the disk, in order. Files are known by number: names come and go. */
type DiskOperation =
  | { readonly kind: 'makeDirectory'; readonly path: string }
  | { readonly kind: 'create'; readonly path: string; readonly file: number }
  | { readonly kind: 'write'; readonly file: number; readonly position: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly file: number; readonly length: number }
  | { readonly kind: 'dataSync'; readonly file: number }
  | { readonly kind: 'rename'; readonly from: string; readonly to: string }
  | { readonly kind: 'remove'; readonly path: string }
  | { readonly kind: 'syncDirectory'; readonly path: string };

type FileChange = Extract<DiskOperation, { kind: 'write' | 'truncate' }>;

/** What a crash does to each change that was not synced, each by itself. */
export type CrashFate = 'kept' | 'dropped' | 'torn';

/** Directories and files by path: what a disk holds. */
export interface DiskImage {
  readonly directories: ReadonlySet<string>;
  readonly files: ReadonlyMap<string, Buffer>;
}

export interface Fault {
  /** Fails the operation of this number, counted from 0 over all that change the disk. */
  readonly operation: number;
  readonly code: 'EIO' | 'ENOSPC';
}

class SystemError extends Error {
  readonly code: string;

  constructor(code: string, what: string) {
    super(`${code}: ${what}`);
    this.code = code;
  }
}

function written(content: Buffer, { position, bytes }: { position: number; bytes: Buffer }): Buffer {
  const grown = Buffer.alloc(Math.max(content.byteLength, position + bytes.byteLength));
  grown.set(content);
  grown.set(bytes, position);
  return grown;
}

function changed(content: Buffer, change: FileChange): Buffer {
  if (change.kind === 'write') return written(content, change);
  const cut = Buffer.alloc(change.length);
  cut.set(content.subarray(0, change.length));
  return cut;
}

/** A write of which any sectors reached the disk, the file having grown by any part of it. */
function torn(content: Buffer, change: FileChange, random: SeededRandom): Buffer {
  if (change.kind === 'truncate') return random.integer(2) === 0 ? content : changed(content, change);
  const { position, bytes } = change;
  const end = position + bytes.byteLength;
  const growth = Math.max(0, end - content.byteLength);
  // A file ends where a sector does, or where the write did: the disk takes sectors, whatever their bytes.
  const sectors = random.integer(Math.floor(growth / sectorBytes) + 1);
  const kept = random.integer(3) === 0 ? growth : sectors * sectorBytes;
  const result = Buffer.alloc(Math.max(content.byteLength, end - growth + kept));
  result.set(content);
  for (let start = position; start < end; ) {
    const next = Math.min(end, (Math.floor(start / sectorBytes) + 1) * sectorBytes);
    if (random.integer(2) === 0 && start < result.byteLength) {
      result.set(bytes.subarray(start - position, Math.min(next, result.byteLength) - position), start);
    }
    start = next;
  }
  return result;
}

/**
 * A file system in memory that records what is done to it, and says what a crash after any operation may leave: synced
 * contents and directory entries, and of the rest, change by change, all, nothing or parts.
 */
export class MemoryDisk implements FileOperations {
  readonly operations: DiskOperation[] = [];
  readonly #directories = new Set<string>();
  readonly #paths = new Map<string, number>();
  readonly #contents = new Map<number, Buffer>();
  readonly #fault: Fault | null;
  readonly #random: SeededRandom;
  #nextFile = 1;

  constructor(image: DiskImage, random: SeededRandom, fault: Fault | null = null) {
    this.#random = random;
    this.#fault = fault;
    for (const path of image.directories) this.#directories.add(path);
    for (const [path, content] of image.files) {
      this.#paths.set(path, this.#nextFile);
      this.#contents.set(this.#nextFile, content);
      this.#nextFile += 1;
    }
  }

  /** The disk as a process finds it after another was killed that had done `operations`: nothing lost, nothing synced. */
  static after(start: DiskImage, operations: readonly DiskOperation[], random: SeededRandom): MemoryDisk {
    const disk = new MemoryDisk(start, random);
    for (const operation of operations) {
      disk.operations.push(operation);
      disk.#apply(operation);
    }
    return disk;
  }

  /** What it holds now, synced or not. */
  image(): DiskImage {
    const files = [...this.#paths].map(([path, file]) => [path, this.#content(file)] as const);
    return { directories: new Set(this.#directories), files: new Map(files) };
  }

  #content(file: number): Buffer {
    return this.#contents.get(file) ?? Buffer.alloc(0);
  }

  /** Lets other work that is under way go first, or not. */
  async #pause(): Promise<void> {
    for (let turns = this.#random.integer(4); turns > 0; turns -= 1) await null;
  }

  /** Records the operation; fails instead when it is the one. */
  async #record(operation: DiskOperation): Promise<void> {
    await this.#pause();
    const fails = this.#fault?.operation === this.operations.length;
    if (fails && operation.kind === 'write') {
      // A disk that fills up takes some of it.
      const some = operation.bytes.subarray(0, this.#random.integer(operation.bytes.byteLength));
      this.operations.push({ ...operation, bytes: some });
      this.#contents.set(
        operation.file,
        written(this.#content(operation.file), { ...operation, bytes: some }),
      );
    }
    if (fails) throw new SystemError(this.#fault?.code ?? 'EIO', `${operation.kind} failed`);
    this.operations.push(operation);
  }

  #apply(operation: DiskOperation): void {
    switch (operation.kind) {
      case 'makeDirectory':
        this.#directories.add(operation.path);
        break;
      case 'create':
        this.#paths.set(operation.path, operation.file);
        this.#contents.set(operation.file, Buffer.alloc(0));
        this.#nextFile = Math.max(this.#nextFile, operation.file + 1);
        break;
      case 'write':
      case 'truncate':
        this.#contents.set(operation.file, changed(this.#content(operation.file), operation));
        break;
      case 'rename': {
        const file = this.#paths.get(operation.from);
        this.#paths.delete(operation.from);
        if (file !== undefined) this.#paths.set(operation.to, file);
        break;
      }
      case 'remove':
        this.#paths.delete(operation.path);
        break;
      case 'dataSync':
      case 'syncDirectory':
        break;
    }
  }

  async #change(operation: DiskOperation): Promise<void> {
    await this.#record(operation);
    this.#apply(operation);
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    const found = this.#paths.get(path);
    if (mode !== 'create') {
      if (found === undefined) throw new SystemError('ENOENT', `no such file, open '${path}'`);
      return this.#handle(found);
    }
    if (found !== undefined) throw new SystemError('EEXIST', `file exists, open '${path}'`);
    if (!this.#directories.has(dirname(path)))
      throw new SystemError('ENOENT', `no directory, open '${path}'`);
    const file = this.#nextFile;
    this.#nextFile += 1;
    await this.#change({ kind: 'create', path, file });
    return this.#handle(file);
  }

  #handle(file: number): OpenFile {
    return {
      fd: file,
      readAll: async () => Buffer.from(this.#content(file)),
      write: (position, bytes) => this.#change({ kind: 'write', file, position, bytes: Buffer.from(bytes) }),
      truncate: (length) => this.#change({ kind: 'truncate', file, length }),
      dataSync: () => this.#change({ kind: 'dataSync', file }),
      close: async () => {},
    };
  }

  async stat(path: string): Promise<FileInfo | null> {
    if (this.#directories.has(path)) return { kind: 'directory', mode: 0o700, sizeBytes: 0 };
    const file = this.#paths.get(path);
    return file === undefined
      ? null
      : { kind: 'file', mode: 0o600, sizeBytes: this.#content(file).byteLength };
  }

  async list(path: string): Promise<string[]> {
    if (!this.#directories.has(path)) throw new SystemError('ENOENT', `no such directory '${path}'`);
    return [...this.#directories, ...this.#paths.keys()]
      .filter((entry) => dirname(entry) === path && entry !== path)
      .map((entry) => basename(entry));
  }

  async makeDirectory(path: string): Promise<void> {
    if (this.#directories.has(path)) throw new SystemError('EEXIST', `file exists, mkdir '${path}'`);
    await this.#change({ kind: 'makeDirectory', path });
  }

  async rename(from: string, to: string): Promise<void> {
    if (!this.#paths.has(from)) throw new SystemError('ENOENT', `no such file, rename '${from}'`);
    await this.#change({ kind: 'rename', from, to });
  }

  async remove(path: string): Promise<void> {
    if (!this.#paths.has(path)) throw new SystemError('ENOENT', `no such file, unlink '${path}'`);
    await this.#change({ kind: 'remove', path });
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#change({ kind: 'syncDirectory', path });
  }

  async freeBytes(): Promise<number> {
    return 1024 * 1024 * 1024;
  }
}

/** A change of a directory: all of it survives, or nothing. */
interface EntryChange {
  readonly directory: string;
  readonly apply: (image: { directories: Set<string>; paths: Map<string, number> }) => void;
}

/** What may be on the disk when the power fails right after the first `count` operations. */
export class CrashModel {
  readonly #start: DiskImage;
  readonly #operations: readonly DiskOperation[];

  constructor(start: DiskImage, operations: readonly DiskOperation[]) {
    this.#start = start;
    this.#operations = operations;
  }

  /** @param fate of each change that was not synced, in order. */
  imageAfter(count: number, fate: () => CrashFate, random: SeededRandom): DiskImage {
    const entries = { directories: new Set(this.#start.directories), paths: new Map<string, number>() };
    const durable = new Map<number, Buffer>();
    const unsynced = new Map<number, FileChange[]>();
    let pending: EntryChange[] = [];
    // Files of the image a run starts with have the numbers that MemoryDisk gives them.
    for (const [place, [path, content]] of [...this.#start.files].entries()) {
      entries.paths.set(path, place + 1);
      durable.set(place + 1, content);
    }
    const names = new Map(entries.paths);
    for (const operation of this.#operations.slice(0, count)) {
      switch (operation.kind) {
        case 'makeDirectory':
          pending.push({
            directory: dirname(operation.path),
            apply: ({ directories }) => directories.add(operation.path),
          });
          break;
        case 'create':
          names.set(operation.path, operation.file);
          pending.push({
            directory: dirname(operation.path),
            apply: ({ paths }) => paths.set(operation.path, operation.file),
          });
          break;
        case 'write':
        case 'truncate':
          unsynced.set(operation.file, [...(unsynced.get(operation.file) ?? []), operation]);
          break;
        case 'dataSync':
          durable.set(operation.file, this.#settled(operation.file, durable, unsynced));
          unsynced.delete(operation.file);
          break;
        case 'rename': {
          const { from, to } = operation;
          const file = names.get(from) ?? 0;
          names.delete(from);
          names.set(to, file);
          pending.push({
            directory: dirname(to),
            apply: ({ paths }) => {
              paths.delete(from);
              paths.set(to, file);
            },
          });
          break;
        }
        case 'remove':
          names.delete(operation.path);
          pending.push({
            directory: dirname(operation.path),
            apply: ({ paths }) => paths.delete(operation.path),
          });
          break;
        case 'syncDirectory':
          for (const change of pending) if (change.directory === operation.path) change.apply(entries);
          pending = pending.filter(({ directory }) => directory !== operation.path);
          break;
      }
    }
    // A directory entry is all there or not at all.
    const survives = (): boolean => {
      const drawn = fate();
      return drawn === 'kept' || (drawn === 'torn' && random.integer(2) === 0);
    };
    for (const change of pending) if (survives()) change.apply(entries);
    const files = new Map<string, Buffer>();
    for (const [path, file] of entries.paths) {
      // What lies in a directory that did not survive is gone with it.
      if (!entries.directories.has(dirname(path))) continue;
      let content = durable.get(file) ?? Buffer.alloc(0);
      for (const change of unsynced.get(file) ?? []) {
        const drawn = fate();
        if (drawn === 'kept') content = changed(content, change);
        if (drawn === 'torn') content = torn(content, change, random);
      }
      files.set(path, content);
    }
    return { directories: entries.directories, files };
  }

  #settled(file: number, durable: Map<number, Buffer>, unsynced: Map<number, FileChange[]>): Buffer {
    return (unsynced.get(file) ?? []).reduce(changed, durable.get(file) ?? Buffer.alloc(0));
  }
}
