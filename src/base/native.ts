import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * The native border: everything that `native/` exports, typed here and nowhere else. `null` stands for "nothing",
 * never `undefined`. Functions that the operating system can refuse return an errno instead of throwing, so that the
 * caller words the error.
 */
export interface NativeBinding {
  // --- processes and sockets ---------------------------------------------------------------------------------

  /**
   * Sends one datagram to systemd (sd_notify(3)). `socketPath` is `$NOTIFY_SOCKET`; a leading `@` means the abstract
   * namespace. @returns 0 or an errno.
   */
  sdNotify(socketPath: string, message: string): number;
  /**
   * Creates a TCP socket with SO_REUSEADDR, binds and listens on it. IPv4 or IPv6 literal. The descriptor is
   * close-on-exec; hand it on through `spawn`'s `stdio`. @returns the descriptor (≥ 0) or a negative errno.
   */
  bindTcp(address: string, port: number, backlog: number): number;
  /** The port a socket is bound to (after binding port 0). @returns the port or a negative errno. */
  boundPort(fd: number): number;
  /** A close-on-exec duplicate of `fd`. @returns the descriptor or a negative errno. */
  duplicateFd(fd: number): number;
  /** Closes a descriptor of ours. @returns 0 or an errno. */
  closeFd(fd: number): number;
  /** Asks the kernel to send `signal` to this process when its parent's thread ends (prctl(2) PR_SET_PDEATHSIG). */
  setParentDeathSignal(signal: number): number;
  /** Forbids core dumps and ptrace by other processes of the same user (PR_SET_DUMPABLE 0, RLIMIT_CORE 0). */
  forbidCoreDumps(): number;
  /** Takes (or tries to take, without waiting) an exclusive flock(2). @returns 0 or an errno (EWOULDBLOCK: held). */
  tryLockFile(fd: number): number;
  /** SO_PEERCRED of a connected unix socket, `null` when the kernel has none. */
  peerCredentials(fd: number): { readonly pid: number; readonly uid: number; readonly gid: number } | null;
  /** CLOCK_BOOTTIME in milliseconds: goes on during suspend. */
  bootTimeMs(): number;
}

const addonPath = join(dirname(fileURLToPath(import.meta.url)), '../../../build/Release/xksd.node');

/** Loads the addon. Each thread gets an instance of its own; process-wide state is shared inside the addon. */
export function loadNativeBinding(): NativeBinding {
  return createRequire(import.meta.url)(addonPath) as NativeBinding;
}
