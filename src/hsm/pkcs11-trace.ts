import type { LineLogger } from '../base/logger.js';
import type { NativeBinding } from '../base/native.js';
import type { Timers } from '../base/timers.js';

/** How often lines are taken from the addon, which keeps 8,192 of them. */
const takenEveryMs = 20;
/** Lines taken at once, so that requests are served between. */
const takenMax = 1_000;

type TraceSource = Pick<NativeBinding, 'tracePkcs11Calls' | 'takePkcs11Trace'>;

export interface Pkcs11Trace {
  /** Calls that had no place in the trace, since the start. */
  dropped(): number;
  /** Writes what there is. For the end of the process. */
  flush(): void;
}

/** Where calls are not traced. */
export const noPkcs11Trace: Pkcs11Trace = { dropped: () => 0, flush: () => {} };

/**
 * Has a line in the log for each PKCS#11 call of modules that are loaded from now on, by any thread of this process. A
 * call is written once it has returned; where they come faster than lines can be written, some are dropped and counted.
 */
export function tracePkcs11Calls(native: TraceSource, timers: Timers, logger: LineLogger): Pkcs11Trace {
  let dropped = 0;
  let unobserved = 0;
  const take = (): number => {
    const taken = native.takePkcs11Trace(takenMax);
    for (const call of taken.calls) logger.infoJson('pkcs11 call', call);
    if (taken.dropped > dropped) {
      const message = 'PKCS#11 calls are missing from the trace: there were too many at once';
      logger.warn(message, { droppedCalls: taken.dropped - dropped });
      dropped = taken.dropped;
    }
    if (taken.unobservedModules > unobserved) {
      unobserved = taken.unobservedModules;
      logger.warn('PKCS#11 modules are missing from the trace: there are more than it can follow', {
        modules: unobserved,
      });
    }
    return taken.calls.length;
  };
  const again = (): void => {
    const isMore = take() === takenMax;
    timers.after(isMore ? 0 : takenEveryMs, again);
  };
  native.tracePkcs11Calls();
  again();
  return {
    dropped: () => dropped,
    flush: () => {
      while (take() === takenMax);
    },
  };
}
