import t from 'tap';
import type { EncryptionCount } from '../../../src/hsm/encryption-count.js';
import { TokenFleet } from '../../../src/hsm/fleet/token-fleet.js';
import { objectId } from '../../../src/hsm/types.js';
import { CapturedLogger } from '../../support/captured-logger.js';
import { SeededRandom } from '../../support/seeded-random.js';
import { SoftwareToken } from '../../support/software-token.js';
import { VirtualTime } from '../../support/virtual-time.js';

const key = { objectId: objectId('aa'), witness: null };
const operation = {
  ...{ key, plaintext: Buffer.from('secret'), gcmAad: Buffer.from('aad') },
  ...{ integrityPrefix: null, verify: false },
};
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

class Counted implements EncryptionCount {
  readonly time = new VirtualTime();
  readonly tokens: readonly SoftwareToken[];
  readonly fleet: TokenFleet;
  readonly corrections: number[] = [];
  count = 0;

  constructor(names: readonly string[]) {
    this.tokens = names.map((name) => {
      const token = new SoftwareToken();
      token.change({ serial: name, label: name });
      token.crypto.add(key.objectId, Buffer.alloc(32, 1));
      return token;
    });
    this.fleet = new TokenFleet({
      ...{ tokens: this.tokens, encryptions: this, clock: this.time, timers: this.time },
      ...{ random: new SeededRandom(1), logger: new CapturedLogger() },
    });
  }

  asked(): void {
    this.count += 1;
  }

  corrected(_: string, more: number): void {
    this.corrections.push(more);
  }

  encrypt() {
    return this.fleet.crypto.encrypt(operation, this.time.monotonicMs() + 150);
  }
}

t.test('each encryption by one token counts; its decrypts do not', async (t) => {
  const counted = new Counted(['a']);
  const sealed = await counted.encrypt();
  t.ok(sealed.ok);
  t.equal(counted.count, 1);
  if (sealed.ok) {
    const { ciphertext, iv, tag } = sealed.value;
    const opened = await counted.fleet.crypto.decrypt(
      { key, ciphertext, iv, tag, gcmAad: operation.gcmAad },
      150,
    );
    t.ok(opened.ok);
  }
  t.equal(counted.count, 1);
});

t.test('a retry on another token is an encryption of its own', async (t) => {
  const counted = new Counted(['a', 'b']);
  for (const { crypto } of counted.tokens)
    crypto.failure = { kind: 'failed', rv: 'CKR_DEVICE_ERROR', functionName: null };
  await counted.encrypt();
  t.equal(counted.count, 2);
});

t.test('so is a hedge, and what nobody waits for any more', async (t) => {
  const counted = new Counted(['a', 'b']);
  for (let index = 0; index < 100; index += 1) await counted.encrypt();
  t.equal(counted.count, 100);
  let release = (): void => {};
  const hangs = () => new Promise<void>((resolve) => (release = resolve));
  for (const { crypto } of counted.tokens) {
    crypto.before = () => {
      for (const other of counted.tokens) other.crypto.before = () => {};
      return hangs();
    };
  }
  const answer = counted.encrypt();
  counted.time.advance(15);
  await turn();
  t.ok((await answer).ok, 'the second token has answered');
  t.equal(counted.count, 102);
  release();
  await turn();
  t.equal(counted.count, 102);
});

t.test(
  'what a token says to have begun corrects the one that was counted, also after the answer',
  async (t) => {
    const counted = new Counted(['a']);
    const [token] = counted.tokens;
    if (token === undefined) throw new Error('no token');
    for (const begun of [0, 1, 2]) {
      token.crypto.begins = begun;
      await counted.encrypt();
    }
    t.equal(counted.count, 3);
    t.strictSame(counted.corrections, [-1, 1]);
  },
);
