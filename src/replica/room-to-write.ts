import type { Timers } from '../base/timers.js';
import { remainingBytes } from '../replication/ballast.js';
import type { DataDirectory } from '../replication/data-directory.js';

/** With less, a replica that starts anew would soon end again: sixteen of the longest commands. */
export const roomBytesMin = 1024 * 1024;
export const roomLookMs = 500;
/** A disk that does not say in time how much room it has fails for another reason. */
export const lookTimeoutMs = 2_000;

/**
 * Waits until the disk of the data directory has room again, looking twice a second; not at all when it has, or does not
 * say. To start anew on a disk that is still full would only cost what serving needs: a start takes half a second of a core,
 * and ends at the first write.
 *
 * @param onFull once, before it waits.
 */
export async function roomToWrite(
  directory: Pick<DataDirectory, 'files' | 'path'>,
  timers: Timers,
  onFull: () => void,
): Promise<void> {
  const within = (ms: number): Promise<null> =>
    new Promise((resolve) => timers.after(ms, () => resolve(null)));
  let told = false;
  for (;;) {
    const asked = remainingBytes(directory).catch(() => null);
    const freeBytes = await Promise.race([asked, within(lookTimeoutMs)]);
    if (freeBytes === null || freeBytes >= roomBytesMin) return;
    if (!told) onFull();
    told = true;
    await within(roomLookMs);
  }
}
