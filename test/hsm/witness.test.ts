import t from 'tap';
import { ok } from '../../src/base/result.js';
import { type HsmCrypto, objectId } from '../../src/hsm/types.js';
import { makeWitness, witnessAad, witnessPlaintext } from '../../src/hsm/witness.js';

t.test('X-E3: no XKS request can form the AAD of a witness', async (t) => {
  // len16be(aad) ‖ aad ‖ len8(metadata) ‖ metadata: the announced 65,535 bytes are not there.
  const announced = Buffer.from(witnessAad).readUInt16BE(0);
  t.ok(2 + announced + 1 > witnessAad.byteLength);
});

t.test('a witness is the constant under the key, verified by the token', async (t) => {
  const asked: unknown[] = [];
  const iv = new Uint8Array(12);
  const ciphertext = new Uint8Array(witnessPlaintext.byteLength);
  const tag = new Uint8Array(16);
  const crypto: HsmCrypto = {
    encrypt: async (operation, deadlineMs) => {
      asked.push(operation, deadlineMs);
      return ok({ iv, ciphertext, tag, integrityValue: null });
    },
    decrypt: () => t.fail('not asked for') as never,
  };
  t.strictSame(await makeWitness(crypto, objectId('ab'), 150), ok({ iv, ciphertext, tag }));
  t.strictSame(asked, [
    {
      key: { objectId: 'ab', witness: null },
      plaintext: witnessPlaintext,
      gcmAad: witnessAad,
      integrityPrefix: null,
      verify: true,
    },
    150,
  ]);
});
