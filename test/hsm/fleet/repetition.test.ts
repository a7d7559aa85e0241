import t from 'tap';
import { err, ok, type Result } from '../../../src/base/result.js';
import { isWorthRepeating, RepetitionBudget, repeating } from '../../../src/hsm/fleet/repetition.js';
import type { DecryptOperation, HsmCrypto, HsmFailure } from '../../../src/hsm/types.js';
import { VirtualTime } from '../../support/virtual-time.js';

const failure = (kind: HsmFailure['kind'], changes: Partial<HsmFailure> = {}): HsmFailure => ({
  kind,
  rv: 'CKR_GENERAL_ERROR',
  functionName: 'C_Encrypt',
  ...changes,
});

t.test('a failure in a call is worth it, three times, while another token could answer, too', async (t) => {
  t.ok(isWorthRepeating(failure('failed'), 0, 40));
  t.ok(isWorthRepeating(failure('token-unavailable'), 2, 150));
  t.notOk(isWorthRepeating(failure('failed'), 3, 150), 'three times');
  t.notOk(isWorthRepeating(failure('failed'), 0, 39), 'no time');
  t.notOk(isWorthRepeating(failure('token-unavailable', { functionName: null }), 0, 150), 'nobody logged in');
  t.notOk(
    isWorthRepeating(failure('failed', { isDoubted: true }), 0, 150),
    'refused more than once as it is',
  );
  t.notOk(isWorthRepeating(failure('failed', { rv: null }), 0, 150), 'no code of the token’s');
  for (const kind of [
    'bad-ciphertext',
    'deadline',
    'overloaded',
    'key-lost',
    'too-large',
    'unsafe-iv',
  ] as const)
    t.notOk(isWorthRepeating(failure(kind), 0, 150), kind);
});

t.test('a repetition for every four operations that succeed, and a burst of twenty', async (t) => {
  const budget = new RepetitionBudget();
  const taken = (tries: number): number =>
    Array.from({ length: tries }, () => budget.take()).filter(Boolean).length;
  t.equal(taken(100), 20, 'one that always fails is left alone soon');
  for (let index = 0; index < 11; index++) budget.succeeded();
  t.equal(taken(100), 2);
  for (let index = 0; index < 10_000; index++) budget.succeeded();
  t.equal(taken(100), 20);
});

const operation = {} as DecryptOperation;
const plaintext = ok(new Uint8Array(1));

/** A token that answers so, one after the other, and then for ever as at last. */
function answers(...results: readonly Result<Uint8Array, HsmFailure>[]): HsmCrypto & {
  readonly calls: number;
  readonly decrypts: readonly DecryptOperation[];
} {
  const decrypts: DecryptOperation[] = [];
  return {
    decrypts,
    get calls() {
      return decrypts.length;
    },
    decrypt: async (asked) => {
      decrypts.push(asked);
      return results[Math.min(decrypts.length, results.length) - 1] ?? plaintext;
    },
    encrypt: async () => err(failure('failed')),
  };
}

t.test('what fails now and then is done in the end', async (t) => {
  const token = answers(
    err(failure('failed')),
    err(failure('token-unavailable')),
    err(failure('failed')),
    plaintext,
  );
  t.equal(await repeating(token, new VirtualTime()).decrypt(operation, 150), plaintext);
  t.strictSame(
    token.decrypts.map(({ hasFailed }) => hasFailed),
    [undefined, true, true, true],
    'each time it is told that it has failed',
  );
});

t.test(
  'the first failure is the answer where none succeeds, but what is said of the ciphertext',
  async (t) => {
    const first = err(failure('failed'));
    const gone = answers(first, err(failure('token-unavailable', { functionName: null })));
    t.equal(await repeating(gone, new VirtualTime()).decrypt(operation, 150), first);
    t.equal(gone.calls, 2);
    const bad = err(failure('bad-ciphertext'));
    t.equal(await repeating(answers(first, bad), new VirtualTime()).decrypt(operation, 150), bad);
  },
);

t.test('one that always fails is asked once each, when the burst is used up', async (t) => {
  const token = answers(err(failure('failed')));
  const crypto = repeating(token, new VirtualTime());
  for (let index = 0; index < 20; index++) await crypto.decrypt(operation, 150);
  t.equal(token.calls, 20 + 20);
});

t.test('what succeeds at once allows repetitions anew', async (t) => {
  const failed = err(failure('failed'));
  // The burst is used up by seven that always fail; four succeed; the next may be repeated once, and fails then.
  const token = answers(
    ...Array.from({ length: 7 + 20 }, () => failed),
    ...Array.from({ length: 4 }, () => plaintext),
    failed,
    plaintext,
    failed,
  );
  const crypto = repeating(token, new VirtualTime());
  for (let index = 0; index < 7; index++) t.equal(await crypto.decrypt(operation, 150), failed);
  t.equal(token.calls, 27);
  for (let index = 0; index < 4; index++) t.equal(await crypto.decrypt(operation, 150), plaintext);
  t.equal(await crypto.decrypt(operation, 150), plaintext);
  t.equal(token.calls, 33);
  t.equal(await crypto.decrypt(operation, 150), failed);
  t.equal(token.calls, 34, 'no other one');
});
