import { readFileSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { CommandFailure } from './command-failure.js';

/** `systemd/xksd.service` puts it there. */
export const defaultAdminSocket = '/run/xksd/admin.sock';

export const adminSocketVariable = 'XKSD_ADMIN_SOCKET';

/** Why nobody answers at `socketPath`, and what to do about it. */
export function connectFailure(socketPath: string, errno: string, detail: string): CommandFailure {
  switch (errno) {
    case 'ENOENT':
    case 'ECONNREFUSED': {
      const stats = statOf(socketPath);
      if (stats !== null && !stats.isSocket()) {
        return new CommandFailure('not-running', `${socketPath} is no socket: name xksd's admin socket.`);
      }
      const what = errno === 'ENOENT' ? 'there is no socket' : 'nobody listens';
      return new CommandFailure(
        'not-running',
        `xksd is not running here: ${what} at ${socketPath}. Start it with \`systemctl start xksd\` or ` +
          '`xksd run --config FILE`; if its admin socket lies elsewhere, say so with --socket or --config.',
      );
    }
    case 'EACCES':
    case 'EPERM':
      return new CommandFailure('permission-denied', permissionText(socketPath));
    default:
      return new CommandFailure('not-running', `cannot connect to ${socketPath}: ${detail}`);
  }
}

function permissionText(socketPath: string): string {
  const socket = statOf(socketPath);
  const refusing =
    socket === null ? nearestVisible(dirname(socketPath)) : { path: socketPath, stats: socket };
  const start = `no permission to open ${socketPath}`;
  if (refusing === null) return `${start}.`;
  const { path, stats } = refusing;
  const group = groupName(stats.gid);
  const mode = (stats.mode & 0o777).toString(8).padStart(4, '0');
  const cure =
    (stats.mode & 0o060) === 0
      ? 'run this command as its owner or as root.'
      : `join the group ${group} (\`usermod -aG ${group} USER\`, then log in again), or run this command as root.`;
  return `${start}: ${path} belongs to uid ${stats.uid}, group ${group}, mode ${mode}; ${cure}`;
}

function statOf(path: string): Stats | null {
  try {
    return statSync(path);
  } catch {
    return null;
  }
}

/** The deepest directory on the way that shows itself: the one that lets us go no further. */
function nearestVisible(directory: string): { readonly path: string; readonly stats: Stats } | null {
  for (let path = directory; ; path = dirname(path)) {
    const stats = statOf(path);
    if (stats !== null) return { path, stats };
    if (path === dirname(path)) return null;
  }
}

/** From group(5); the number where it has no name. */
function groupName(gid: number): string {
  try {
    for (const line of readFileSync('/etc/group', 'utf8').split('\n')) {
      const [name, , id] = line.split(':');
      if (name !== undefined && id === String(gid)) return name;
    }
  } catch {
    // Without the file the number has to do.
  }
  return String(gid);
}
