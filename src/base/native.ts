import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The outcome of a PKCS#11 call, or of dlopen(3). A value, never an `Error`: those lose their fields between threads. */
export interface Pkcs11Outcome {
  /** `CKR_…` verbatim; `CKR_OK` when it worked; `null` when no PKCS#11 function was reached. */
  readonly rv: string | null;
  /** The function that failed (`C_…`, `dlopen`, …), `null` when none did. */
  readonly functionName: string | null;
  /** dlerror(3)'s words where there are any. Names paths, never secrets. */
  readonly message: string | null;
}

/** The submitting side of an operation queue. */
export interface Pkcs11OperationQueueOptions {
  /** Where `submit` finds cell number and generation in turn; two elements for each cell. */
  readonly submitted: Uint32Array;
  /** Where `collect` puts them. */
  readonly done: Uint32Array;
  /** Called on this thread, once for all completions that have not been collected. Does not keep the loop alive. */
  readonly completed: () => void;
}

/**
 * Operations on their way to the lanes of this process: one lane is one session and its thread. Cells are named by
 * number and generation (see src/hsm/cells.ts). Nothing here throws or waits.
 */
export interface Pkcs11OperationQueue {
  /** By which workers find it (`Pkcs11CryptoOptions.queueId`), until it is stopped. */
  readonly id: number;
  /**
   * Adds the first `count` operations in `submitted`, lets up to `lanes` lanes work, wakes those that rest and opens
   * those that are missing. @returns how many, from the first; the others found the queue full or stopped.
   */
  submit(count: number, lanes: number): number;
  /** Takes out an operation that has been withdrawn. */
  forget(index: number, generation: number): void;
  /** Lets up to `lanes` lanes work. Those above that rest after what they have in hand. */
  allowLanes(lanes: number): void;
  /** 1: lanes that have rested for long stay all the same, as is so at first; 0: they end (`sessionIdleMs`). */
  keepLanes(keep: 0 | 1): void;
  /** Fills `done`. @returns how many operations are in it; 0 when there is nothing more to collect. */
  collect(): number;
  /** Operations that no lane has taken. */
  waiting(): number;
  /** Lanes that there are, those inside a call that does not return included. */
  lanes(): number;
  /** Lanes that are known to work: the first of each worker, and those that have carried out an operation. */
  provenLanes(): number;
  /**
   * How long the PKCS#11 calls for this queue took (`native/pkcs11_calls.h`): for each function, by its index, a number of
   * calls for each of `pkcs11CallBoundsMicros` and one for those beyond, and their nanoseconds; last, the operations that
   * were tried again. Does nothing when `numbers` is too short.
   */
  readCalls(numbers: Float64Array): void;
  /** Sends every lane away; nothing is taken any more. */
  stop(): void;
  /** Stops it, and lets go of `submitted`, `done` and `completed`. */
  close(): void;
}

/** What a worker needs to open its sessions. */
export interface Pkcs11CryptoOptions {
  readonly modulePath: string;
  /** `LibraryParameters` for C_Initialize; empty for none. */
  readonly initArgs: string;
  readonly slotId: bigint;
  /** Sessions (lanes) at most, 1 to 256. All but the first have native threads, started when they are wanted. */
  readonly sessionsMax: number;
  /** A session besides the first that has had nothing to do for so long is closed, until it is wanted again. */
  readonly sessionIdleMs: number;
  /** Where operations come from: `Pkcs11OperationQueue.id`, of any thread of this process. */
  readonly queueId: number;
  /** The cells, a view of the whole SharedArrayBuffer (see src/hsm/cells.ts). */
  readonly memory: Uint8Array;
  /** What witnesses are made of: their plaintext and AAD. */
  readonly witnessPlaintext: Uint8Array;
  readonly witnessAad: Uint8Array;
}

/** The sessions of one worker. Ends with its environment, or by `close`. */
export interface Pkcs11Crypto {
  /**
   * Carries operations out on this thread and its session until `shiftMs` are over or the queue is stopped; waits
   * where there are none. 0: one operation, if there is one. Results are in the cells; never throws.
   * @returns how many operations it took.
   */
  work(shiftMs: number): number;
  /**
   * Closes the sessions. Threads that do not come back within `graceMs` are left to themselves: they keep the module
   * loaded and touch no cell any more. @returns how many were left.
   */
  close(graceMs: number): number;
}

/**
 * What an `rv` means for an operation that failed with it (X-X2): the one table, `native/rv_class.cc`.
 *
 * - `ok`;
 * - `bad-ciphertext`: the module says that the ciphertext is not authentic;
 * - `ambiguous`: could be the ciphertext or the token; the canary decides;
 * - `handle-stale`: find the object again;
 * - `session-lost`: open the session again;
 * - `device`: the token is ill; open the session again, else it is unavailable;
 * - `login-lost`: nobody is logged in, the token is gone or the module was finalised: not ours to cure;
 * - `failed`: the module or we are wrong.
 */
export type RvClass =
  | 'ok'
  | 'bad-ciphertext'
  | 'ambiguous'
  | 'handle-stale'
  | 'session-lost'
  | 'device'
  | 'login-lost'
  | 'failed';

/**
 * The native border: everything that `native/` exports, typed here and nowhere else. `null` stands for "nothing",
 * never `undefined`. Functions that the operating system can refuse return an errno instead of throwing, so that the
 * caller words the error.
 */
export interface NativeBinding {
  // --- PKCS#11 -----------------------------------------------------------------------------------------------

  /**
   * Loads a module and initialises it (CKF_OS_LOCKING_OK), or takes another reference to it: references are counted
   * by real path over all threads of the process, and given back when their environment ends. A module that somebody
   * else initialised is fine (`CKR_OK`). Must come before anything else opens the same path, so that the module binds
   * its own symbols (RTLD_DEEPBIND), not those that Node exports.
   */
  loadPkcs11Module(modulePath: string, initArgs: string): Pkcs11Outcome;
  /**
   * Gives back a reference of this environment. The last one of the process calls C_Finalize, which ends every
   * session in it. A module with a call that never returned is not finalised.
   */
  releasePkcs11Module(modulePath: string): Pkcs11Outcome;
  /** A new operation queue; this thread submits and collects. Ends with its environment, or by `close`. */
  openPkcs11OperationQueue(options: Pkcs11OperationQueueOptions): Pkcs11OperationQueue;
  /** Opens the first session of a worker on a module (and takes a reference to it). Expects the token to be logged in. */
  openPkcs11Crypto(options: Pkcs11CryptoOptions): Pkcs11Outcome & { readonly crypto: Pkcs11Crypto | null };
  /** `CKR_…` for a return value; unknown ones as `CKR_0x…`, vendor-defined ones as `CKR_VENDOR_DEFINED+0x…`. */
  pkcs11RvName(rv: number): string;
  /** The function that a cell names; `null` for 0. */
  pkcs11FunctionName(index: number): string | null;
  /** Upper bounds of what `Pkcs11OperationQueue.readCalls` counts together, microseconds, ascending. */
  readonly pkcs11CallBoundsMicros: readonly number[];
  /** Traces the calls of every module that is loaded from now on, in all threads of this process. */
  tracePkcs11Calls(): void;
  /**
   * Takes up to `max` calls that have returned, oldest first: of each the fields of a line, `,"name":value`, none of them
   * data, a PIN or its length. `dropped`: calls that found the trace full, since the start. `unobservedModules`: those
   * of this process beyond the 12 whose calls can be seen.
   */
  takePkcs11Trace(max: number): {
    readonly calls: readonly string[];
    readonly dropped: number;
    readonly unobservedModules: number;
  };
  /**
   * Makes the addon itself a PKCS#11 module, for whoever loads `nativeAddonPath` next on this thread: the one at
   * `modulePath`, which this environment has loaded, with its calls traced. @returns false where calls are not traced.
   */
  offerTracedPkcs11Module(modulePath: string): boolean;
  /** The row of the table for this return value of an encrypt or decrypt call. */
  classifyPkcs11Rv(rv: number, operation: 'encrypt' | 'decrypt'): RvClass;
  /**
   * Ends the process with `code` after `graceMs` whatever hangs: a thread inside a PKCS#11 call that never returns
   * would block exit(3) for ever. For the 'exit' event.
   */
  exitDespiteHungCalls(code: number, graceMs: number): void;

  // --- SigV4 -------------------------------------------------------------------------------------------------

  /**
   * Checks whether `signature` (64 lower-case hexadecimal digits) is that of a request: HMAC-SHA-256 by `signingKey` (32
   * bytes) of `toSignHead ‖ hex(h)`, where h is SHA-256(`canonicalHead ‖ hex(SHA-256(body))`). Strings hold one byte per
   * character. Compares in constant time and leaves nothing of the key on the stack. Throws a TypeError for anything else.
   * @returns `null` when it is, else hex(h).
   */
  checkSigV4Signature(
    signingKey: Uint8Array,
    toSignHead: string,
    canonicalHead: string,
    body: Uint8Array,
    signature: string,
  ): string | null;

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
  /** Sets O_NONBLOCK, for every process that shares the open file. @returns 0 or an errno. */
  setNonBlocking(fd: number): number;
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
  /** CLOCK_MONOTONIC in microseconds: the clock by which native code tells how late it is. */
  monotonicMicros(): number;
}

/** Where the addon lies. */
export const nativeAddonPath = join(
  dirname(fileURLToPath(import.meta.url)),
  '../../../build/Release/xksd.node',
);

/** Loads the addon. Each thread gets an instance of its own; process-wide state is shared inside the addon. */
export function loadNativeBinding(): NativeBinding {
  return createRequire(import.meta.url)(nativeAddonPath) as NativeBinding;
}
