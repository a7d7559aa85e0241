import { chmodSync, mkdirSync, unlinkSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { dirname } from 'node:path';
import { errorText } from '../base/guards.js';
import { err, ok, type Result } from '../base/result.js';

/** A listener that still answers nothing after so long is taken for alive: better two messages than two replicas. */
const probeTimeoutMs = 1_000;

/** sun_path of unix(7): 108 bytes with the closing zero. */
const socketPathBytesMax = 107;

const errnoOf = (thrown: unknown): string | null =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : null;

/** Whether somebody accepts connections at `path`. */
function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const settle = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(probeTimeoutMs, () => settle(true));
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
  });
}

/**
 * Listens on a unix socket with exactly the file mode given, from its first moment on. Replaces a socket that a dead
 * process left behind, never one that is answered. Makes the directory (0700) where there is none.
 *
 * @returns a sentence for the operator when it cannot be done.
 */
export async function listenOnUnixSocket(
  server: Server,
  path: string,
  mode: number,
): Promise<Result<null, string>> {
  if (Buffer.byteLength(path) > socketPathBytesMax) {
    return err(
      `the socket path ${path} is longer than the ${socketPathBytesMax} bytes that unix sockets allow`,
    );
  }
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  } catch (thrown) {
    return err(`cannot make the directory ${dirname(path)}: ${errorText(thrown)}`);
  }
  if (await isAnswered(path)) return err(`another process answers on ${path}; is xksd running already?`);
  try {
    unlinkSync(path);
  } catch (thrown) {
    if (errnoOf(thrown) !== 'ENOENT') return err(`cannot replace ${path}: ${errorText(thrown)}`);
  }
  return new Promise((resolve) => {
    const onError = (error: Error): void => resolve(err(`cannot listen on ${path}: ${error.message}`));
    server.once('error', onError);
    // bind(2) happens within listen(); until chmod the umask keeps everybody else out.
    const umask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off('error', onError);
        try {
          chmodSync(path, mode);
          resolve(ok(null));
        } catch (thrown) {
          resolve(err(`cannot set the mode of ${path}: ${errorText(thrown)}`));
        }
      });
    } finally {
      process.umask(umask);
    }
  });
}
