import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { buildSlowModule } from '../../bench/target/slow-module.js';
import { encryption, farDeadline, importKnownKey, startPool } from '../support/crypto-pool-fixture.js';
import { logIn } from '../support/logged-in-token.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../../..');

t.test('the empty token copies, past the real one', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-slow-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const softHsm = await makeSoftHsmToken(t);
  const slow = await buildSlowModule(root, directory);
  Object.assign(process.env, slow.emptyEnvironment());
  const token = logIn(t, { ...softHsm, modulePath: slow.modulePath });
  // Its witness is a real ciphertext, which this token would not take for the key's.
  const key = { ...importKnownKey(token).object, witness: null };
  const pool = await startPool(t, token, 1);
  const operation = encryption(key);
  const encrypted = await pool.encrypt(operation, farDeadline());
  if (!encrypted.ok) throw new Error(JSON.stringify(encrypted.error));
  const { ciphertext, iv, tag } = encrypted.value;
  t.strictSame([Buffer.from(ciphertext), Buffer.from(tag)], [operation.plaintext, Buffer.alloc(16)]);
  const decrypted = await pool.decrypt({ key, gcmAad: operation.gcmAad, ciphertext, iv, tag }, farDeadline());
  t.ok(decrypted.ok && Buffer.from(decrypted.value).equals(Buffer.from(operation.plaintext)));
});
