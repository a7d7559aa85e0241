import { readFileSync } from 'node:fs';
import t from 'tap';
import { type FaultShim, makeFaultShim } from '../support/fault-shim.js';
import { allReady, eventually, metadata, startNode } from '../support/running-node.js';

t.test('processes whose calls never return are replaced, and the node serves again', async (t) => {
  let shim: FaultShim | null = null;
  const running = await startNode(t, {
    // One for each process: with more, a process recovers by itself when the HSM does.
    sessionsMax: 2,
    throughModule: async (modulePath) => {
      shim = await makeFaultShim(t, modulePath);
      return shim.modulePath;
    },
  });
  const { node } = running;
  const before = await running.status();
  const setFaults = (...rules: readonly string[]): void => shim?.setFaults(...rules);
  setFaults('C_Encrypt hang');
  await eventually(
    'a replacement',
    () => readFileSync(node.logFile, 'utf8').includes('child cannot recover, replacing it'),
    node.logFile,
  );
  // The HSM is well again; the calls that hang never return.
  setFaults();
  await eventually(
    'every process replaced and ready',
    async () => {
      const now = await running.status();
      return (
        allReady(now) && now.serving.every(({ pid }) => before.serving.every((other) => other.pid !== pid))
      );
    },
    node.logFile,
  );
  t.match(
    await running.client.call('/keys/key-1/encrypt', {
      requestMetadata: metadata,
      plaintext: 'AAAA',
      encryptionAlgorithm: 'AES_GCM',
    }),
    { ciphertext: String },
  );
});
