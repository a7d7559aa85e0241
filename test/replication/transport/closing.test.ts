import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import t from 'tap';
import { nodeFiles, testAuthority } from './peers.js';

t.test('a closed transport leaves nothing that keeps the process alive', async (t) => {
  const authority = await testAuthority(t);
  const [a, b] = [await nodeFiles(authority, 'a'), await nodeFiles(authority, 'b')];
  const [nextA, other] = [await nodeFiles(authority, 'a'), await testAuthority(t)];
  const program = fileURLToPath(new URL('closing-process.js', import.meta.url));
  const mute = createServer();
  mute.listen(0, '127.0.0.1');
  await once(mute, 'listening');
  t.teardown(() => mute.close());
  const { port } = mute.address() as AddressInfo;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [
    ...[program, `${port}`, authority.pem, a.certificate, a.key, b.certificate, b.key],
    ...[nextA.certificate, nextA.key, other.pem],
  ]);
  t.equal(stdout, 'closed, 0 timers\n');
  t.equal(stderr, '', 'and no warnings');
});
