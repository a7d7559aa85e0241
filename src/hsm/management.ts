import { Piscina } from 'piscina';
import { errorText } from '../base/guards.js';
import { err } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import type {
  DiscoveredToken,
  LoginState,
  ManagementResult,
  ManagementTask,
  ManagementValues,
  ManagementWorkerData,
  ObjectDescription,
  ObjectListing,
} from './management-protocol.js';
import type { Pin } from './pin.js';
import type { TokenSelector } from './pkcs11-uri.js';

/** How long the caller of each operation waits. A PKCS#11 call cannot be cancelled: it goes on in the worker. */
const managementTimeoutMs = {
  /** Loading and C_Initialize included: a network HSM's library connects here. */
  discover: 15_000,
  'login-state': 10_000,
  login: 15_000,
  'list-objects': 30_000,
  'find-object': 15_000,
  'generate-key': 30_000,
  release: 2_000,
} as const satisfies Record<ManagementTask['op'], number>;

/** Operations that wait for the one under way; more are refused. */
const managementQueueMax = 16;

/** The management side of one module: pkcs11js in a thread of its own, one operation at a time. */
export class Management {
  readonly #pool: Piscina<ManagementTask, ManagementResult<unknown>>;
  readonly #modulePath: string;
  readonly #timers: Timers;
  /** Operations handed to the worker that have not come back. */
  #outstanding = 0;
  /** The operation whose call did not return in time, while it still has not. */
  #stuck: ManagementTask['op'] | null = null;
  #closed = false;

  constructor(options: ManagementWorkerData & { readonly timers: Timers }) {
    const { timers, ...workerData } = options;
    this.#modulePath = options.modulePath;
    this.#timers = timers;
    this.#pool = new Piscina({
      filename: new URL('./management-worker.js', import.meta.url).href,
      name: 'handle',
      workerData,
      minThreads: 1,
      maxThreads: 1,
      concurrentTasksPerWorker: 1,
      maxQueue: managementQueueMax,
      idleTimeout: Number.POSITIVE_INFINITY,
      // A worker that waits inside Atomics.wait ends late.
      atomics: 'disabled',
    });
    // A crash of the worker rejects the task that it had; one without a task must not end the process.
    this.#pool.on('error', () => {});
  }

  /** Loads and initialises the module at the first call, and finds the one token that is meant. */
  discover(token: TokenSelector): Promise<ManagementResult<DiscoveredToken>> {
    return this.#run({ op: 'discover', token });
  }

  loginState(slotId: bigint): Promise<ManagementResult<LoginState>> {
    return this.#run({ op: 'login-state', slotId });
  }

  /**
   * Logs the process in, and keeps a session open so that it stays so. Already logged in is fine.
   *
   * @param onLate gets what the call comes back with when that is too late for the caller.
   */
  login(
    slotId: bigint,
    pin: Pin,
    onLate: (result: ManagementResult<null>) => void,
  ): Promise<ManagementResult<null>> {
    return this.#run({ op: 'login', slotId, pin: pin.reveal() }, onLate);
  }

  /** The secret keys of the token. */
  listObjects(slotId: bigint): Promise<ManagementResult<ObjectListing>> {
    return this.#run({ op: 'list-objects', slotId });
  }

  /** The one secret key with this CKA_ID (hexadecimal) or label; none or several are refused. */
  findObject(
    slotId: bigint,
    wanted: { readonly objectId: string | null; readonly label: string | null },
  ): Promise<ManagementResult<ObjectDescription>> {
    return this.#run({ op: 'find-object', slotId, ...wanted });
  }

  /** Makes an AES-256 key: sensitive, not extractable, for encryption and decryption alone. */
  generateKey(
    slotId: bigint,
    key: { readonly objectId: string; readonly label: string },
  ): Promise<ManagementResult<ObjectDescription>> {
    return this.#run({ op: 'generate-key', slotId, ...key });
  }

  /** The operation whose call has not returned in time, and still has not: whatever comes next is refused. */
  get stuck(): ManagementTask['op'] | null {
    return this.#stuck;
  }

  /**
   * Closes the session, gives the module back, ends the worker. With a call that never returned, all that is left to
   * itself: a thread inside a PKCS#11 call cannot be ended.
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    if (this.#stuck === null) await this.#run({ op: 'release' });
    this.#closed = true;
    if (this.#outstanding === 0) await this.#pool.destroy();
    else void this.#pool.destroy().catch(() => {});
  }

  async #run<Op extends ManagementTask['op']>(
    task: ManagementTask & { readonly op: Op },
    onLate: (result: ManagementResult<ManagementValues[Op]>) => void = () => {},
  ): Promise<ManagementResult<ManagementValues[Op]>> {
    if (this.#closed) return unavailable('the token is being closed');
    if (this.#stuck !== null) {
      return unavailable(
        `an earlier ${this.#stuck} has not returned from ${this.#modulePath}: the token hangs`,
      );
    }
    this.#outstanding += 1;
    let timedOut = false;
    const timeoutMs = managementTimeoutMs[task.op];
    const answer = this.#pool.run(task).then(
      (result) => result as ManagementResult<ManagementValues[Op]>,
      // The queue is full, or the worker died in the call.
      (error: unknown) => unavailable(`${task.op} was not done: ${errorText(error)}`),
    );
    void answer.then((result) => {
      this.#outstanding -= 1;
      if (!timedOut) return;
      this.#stuck = null;
      onLate(result);
    });
    return new Promise((resolve) => {
      const cancel = this.#timers.after(timeoutMs, () => {
        timedOut = true;
        this.#stuck = task.op;
        resolve(
          unavailable(
            `${task.op} has not returned from ${this.#modulePath} for ${timeoutMs / 1000} s: the token hangs`,
          ),
        );
      });
      void answer.then((result) => {
        cancel();
        resolve(result);
      });
    });
  }
}

function unavailable(message: string): ManagementResult<never> {
  return err({ code: 'token-unavailable', rv: null, functionName: null, message });
}
