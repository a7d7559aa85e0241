import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { loadNativeBinding } from '../../src/base/native.js';
import { eventually } from './running-node.js';

const { tryLockFile } = loadNativeBinding();

/**
 * Runs `act`, which kills processes of the node with this data directory, while none of them is in C_Login: SoftHSM2
 * writes a token's file anew at each login and empties it first (`ObjectFile::store`), so that a process killed between
 * the two leaves a token that nobody can open any more. No HSM does that.
 */
export async function whileNobodyLogsIn(dataDir: string, act: () => void | Promise<void>): Promise<void> {
  if (!existsSync(dataDir)) return act();
  // The lock under which a node's processes log in one after the other.
  const lock = await open(join(dataDir, 'pin-login.lock'), 'a', 0o600);
  try {
    await eventually('nobody logs in', () => tryLockFile(lock.fd) === 0);
    await act();
  } finally {
    await lock.close();
  }
}
