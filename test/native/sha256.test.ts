import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';

const run = promisify(execFile);
const source = join(fileURLToPath(import.meta.url), '../../../../test/native/sha256-driver.cc');

t.test('FIPS 180-4: every implementation, at each length and cut into pieces of any size', async (t) => {
  const driver = join(t.testdir(), 'driver');
  const flags = ['-std=c++17', '-Wall', '-Wextra', '-Werror', '-O1', '-fsanitize=address,undefined'];
  await run('g++', [...flags, '-fno-sanitize-recover=all', source, '-o', driver]);
  const { stdout } = await run(driver, { maxBuffer: 16 * 1024 * 1024 });
  const pattern = Uint8Array.from({ length: 300 }, (_, at) => at * 7 + 1);
  const implementations = new Map<string, number>();
  for (const line of stdout.trimEnd().split('\n')) {
    const [name = '', piece, length, digest] = line.split(' ');
    implementations.set(name, (implementations.get(name) ?? 0) + 1);
    const expected = createHash('sha256')
      .update(pattern.subarray(0, Number(length)))
      .digest('hex');
    if (digest !== expected) t.fail(`${name}: ${length} bytes in pieces of ${piece}`);
  }
  // By instructions, too, where the processor has them.
  for (const [name, digests] of implementations) t.equal(digests, 5 * 301, name);
  t.ok(implementations.has('portable'));
});
