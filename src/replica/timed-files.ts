import type { Clock } from '../base/clock.js';
import type { FileOperations, OpenFile } from '../replication/file-operations.js';

/** The same file operations, with a word on how long each fdatasync(2) took. */
export function timedFiles(
  files: FileOperations,
  clock: Clock,
  onSync: (durationMs: number) => void,
): FileOperations {
  const timed = (file: OpenFile): OpenFile => ({
    fd: file.fd,
    readAll: () => file.readAll(),
    write: (position, bytes) => file.write(position, bytes),
    truncate: (length) => file.truncate(length),
    close: () => file.close(),
    dataSync: async () => {
      const startMs = clock.monotonicMs();
      await file.dataSync();
      onSync(clock.monotonicMs() - startMs);
    },
  });
  return {
    stat: (path) => files.stat(path),
    list: (path) => files.list(path),
    makeDirectory: (path) => files.makeDirectory(path),
    rename: (from, to) => files.rename(from, to),
    remove: (path) => files.remove(path),
    syncDirectory: (path) => files.syncDirectory(path),
    freeBytes: (path) => files.freeBytes(path),
    open: async (path, mode) => timed(await files.open(path, mode)),
  };
}
