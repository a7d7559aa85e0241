import { execFile } from 'node:child_process';
import { existsSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ChaosNode } from './chaos-node.js';

const run = promisify(execFile);
const source = join(dirname(fileURLToPath(import.meta.url)), '../../../test/chaos/kill-shim.c');

/** Steps of kill-shim.c: what the durable log and its like do to files, and the moment around each. */
export const killPoints: readonly string[] = [
  'before pwrite',
  'half pwrite',
  'after pwrite',
  'before fdatasync',
  'after fdatasync',
  'before create',
  'after create',
  'before rename',
  'after rename',
];

/** Builds the library that is to be preloaded into nodes. */
export async function buildKillShim(directory: string): Promise<string> {
  const library = join(directory, 'kill-shim.so');
  const flags = ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-O1', '-shared', '-fPIC'];
  await run('cc', [...flags, source, '-o', library]);
  return library;
}

const rulePath = (node: ChaosNode): string => join(node.dataDir, '..', 'kill-at');

/** The `count`th such operation on the node's data directory from now is its process's last. */
export function armKill(node: ChaosNode, point: string, count: number): void {
  const path = rulePath(node);
  writeFileSync(`${path}.new`, `${point} ${count}\n`);
  renameSync(`${path}.new`, path);
}

/** Whether the point has not been reached yet. */
export const isArmed = (node: ChaosNode): boolean => existsSync(rulePath(node));

export const disarmKill = (node: ChaosNode): void => rmSync(rulePath(node), { force: true });
