import t from 'tap';
import { eventually, eventuallyHealthy, metadata, startNode } from '../support/running-node.js';

t.test(
  'a node with one token, its module named as p11-kit knows it: it serves, and its calls are counted',
  async (t) => {
    const running = await startNode(t, { moduleName: 'softhsm2' });
    await eventuallyHealthy(running, 1);
    const { tokens } = await running.xksctlJson('status');
    t.match(tokens, [{ uri: /module-path=\/.*\/libsofthsm2\.so$/ }]);
    const plaintext = Buffer.from('what KMS wants kept').toString('base64');
    const encrypted = await running.client.call('/keys/key-1/encrypt', {
      requestMetadata: metadata,
      plaintext,
      encryptionAlgorithm: 'AES_GCM',
      ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
    });
    t.equal(typeof encrypted['ciphertext'], 'string');

    const { metricsUrl } = running.node.description;
    const exposed = async (): Promise<string> => (await fetch(metricsUrl)).text();
    /** Serving processes report every few seconds. */
    const number = async (series: RegExp): Promise<number> => Number(series.exec(await exposed())?.[1] ?? 0);
    await eventually(
      'a counted C_Encrypt',
      async () =>
        (await number(/^xks_pkcs11_call_duration_seconds_count\{hsm="\w+",function="C_Encrypt"\} (\d+)$/m)) >
        0,
    );
    const [operations, roundTrips] = [
      await number(/^xks_hsm_operations_total\{hsm="\w+"\} (\d+)$/m),
      await number(/^xks_hsm_round_trips_total\{hsm="\w+"\} (\d+)$/m),
    ];
    t.ok(operations > 0 && roundTrips > operations, `${roundTrips} calls for ${operations} operations`);
    t.match(await exposed(), /^xks_hsm_repeats_total\{hsm="\w+"\} 0$/m);
  },
);
