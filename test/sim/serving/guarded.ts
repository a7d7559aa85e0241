import { errorText } from '../../../src/base/guards.js';
import type { World } from '../world.js';

/** Every call into the code under test: what it throws is a bug. */
export function guarded(world: World, who: string, call: () => void): void {
  try {
    call();
  } catch (thrown) {
    const where = thrown instanceof Error ? (thrown.stack ?? '').split('\n').slice(1, 5).join(' ') : '';
    world.verdict.broken('exception', `${who}: ${errorText(thrown)} ${where}`);
  }
}
