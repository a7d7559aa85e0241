import t from 'tap';
import { eventuallyHealthy, metadata, startNode } from '../support/running-node.js';

/** The whole node, from HTTPS to the token, over each module that can be had here. */
for (const token of ['softhsm', 'nss'] as const) {
  t.test(`X-E2 X-D2 ${token}: encrypt and decrypt, and tell bad ciphertext from a bad token`, async (t) => {
    const running = await startNode(t, { token });
    const { client, xksctlJson } = running;
    const plaintext = Buffer.alloc(4_300, 7).toString('base64');
    const aad = Buffer.alloc(8_192, 9).toString('base64');
    const encrypt = {
      requestMetadata: metadata,
      plaintext,
      additionalAuthenticatedData: aad,
      encryptionAlgorithm: 'AES_GCM',
      ciphertextDataIntegrityValueAlgorithm: 'SHA_256',
    };
    const encrypted = await client.call('/keys/key-1/encrypt', encrypt);
    const decrypt = {
      requestMetadata: metadata,
      encryptionAlgorithm: 'AES_GCM',
      additionalAuthenticatedData: aad,
      ...encrypted,
    };
    t.equal((await client.call('/keys/key-1/decrypt', decrypt))['plaintext'], plaintext);
    // X-E1 gives no least length; GCM has none either.
    const empty = await client.call('/keys/key-1/encrypt', { ...encrypt, plaintext: '' });
    t.equal(empty['ciphertext'], '');
    t.equal((await client.call('/keys/key-1/decrypt', { ...decrypt, ...empty }))['plaintext'], '');
    const otherTag = { ...decrypt, authenticationTag: Buffer.alloc(16).toString('base64') };
    await t.rejects(client.call('/keys/key-1/decrypt', otherTag), /400 .*InvalidCiphertextException/);
    t.strictSame(await client.call('/keys/key-1/metadata', { requestMetadata: metadata }), {
      keySpec: 'AES_256',
      keyUsage: ['ENCRYPT', 'DECRYPT'],
      keyStatus: 'ENABLED',
    });
    await eventuallyHealthy(running, 1);

    await xksctlJson('key', 'disable', 'test', 'key-1');
    await t.rejects(client.call('/keys/key-1/decrypt', decrypt), /400 .*InvalidStateException/);
    await xksctlJson('key', 'enable', 'test', 'key-1');
    t.equal((await client.call('/keys/key-1/decrypt', decrypt))['plaintext'], plaintext);
  });
}
