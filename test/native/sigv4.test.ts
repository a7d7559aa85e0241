import { createHash, createHmac } from 'node:crypto';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { SeededRandom } from '../support/seeded-random.js';

const { checkSigV4Signature } = loadNativeBinding();
const sha256 = (data: Uint8Array | string): Buffer => createHash('sha256').update(data).digest();

t.test('the addon hashes and compares as node:crypto does, whatever the lengths', async (t) => {
  const random = new SeededRandom(11);
  // Around what the addon has room for on its stack, and around the blocks of SHA-256.
  const lengths = [0, 1, 55, 56, 63, 64, 65, 119, 2_045, 2_046, 2_047, 2_048, 2_049, 40_000];
  const someBytes = (): Buffer => Buffer.from(random.bytes(lengths[random.integer(lengths.length)] ?? 0));
  for (let round = 0; round < 400; round++) {
    const signingKey = random.bytes(32);
    const [toSignHead, canonicalHead] = [someBytes(), someBytes()];
    const body = round < 300 ? random.bytes(round) : someBytes();
    const hashed = sha256(Buffer.concat([canonicalHead, Buffer.from(sha256(body).toString('hex'))]));
    const toSign = Buffer.concat([toSignHead, Buffer.from(hashed.toString('hex'))]);
    const right = createHmac('sha256', signingKey).update(toSign).digest('hex');

    const check = (signature: string): string | null =>
      checkSigV4Signature(
        signingKey,
        toSignHead.toString('latin1'),
        canonicalHead.toString('latin1'),
        body,
        signature,
      );
    if (check(right) !== null) t.fail(`round ${round}: the right signature is refused`);
    const at = random.integer(right.length);
    const wrong = `${right.slice(0, at)}${right[at] === '0' ? '1' : '0'}${right.slice(at + 1)}`;
    const refused = check(wrong);
    if (refused === null) t.fail(`round ${round}: a wrong digit ${at} is accepted`);
    else if (refused !== hashed.toString('hex')) t.fail(`round ${round}: another hash of the request`);
  }
});

t.test('what it cannot read is a TypeError, never a verdict', async (t) => {
  const right = [new Uint8Array(32), 'a', 'b', new Uint8Array(0), '0'.repeat(64)];
  const check = checkSigV4Signature as (...given: unknown[]) => string | null;
  t.equal(typeof check(...right), 'string');
  for (const [at, values] of [
    [0, [new Uint8Array(31), new Uint8Array(33), new Uint32Array(32), null, 'x']],
    [1, [null, 1]],
    [2, [null, {}]],
    [3, ['x', null, new DataView(new ArrayBuffer(1))]],
    [4, ['', '0'.repeat(63), '0'.repeat(65), null]],
  ] as const) {
    for (const value of values) {
      const given = right.map((each, position) => (position === at ? value : each));
      t.throws(() => check(...given), TypeError, `argument ${at}`);
    }
  }
  t.throws(() => check(...right.slice(0, 4)), TypeError);
});
