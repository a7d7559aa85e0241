import t from 'tap';
import {
  type FailedAttempt,
  failoverMsMin,
  isTokenFault,
  type NextStep,
  nextStep,
  tellingFailure,
} from '../../../src/hsm/fleet/failover.js';
import type { HsmFailure } from '../../../src/hsm/types.js';

/** A failure that a call brought about; `refused`: one without a call. */
const called = (kind: HsmFailure['kind']): HsmFailure => ({
  kind,
  rv: 'CKR_GENERAL_ERROR',
  functionName: 'C_Decrypt',
});
/** The token refused a ciphertext, but not often enough. */
const doubted: HsmFailure = { ...called('failed'), isDoubted: true };
const refused = (kind: HsmFailure['kind']): HsmFailure => ({ kind, rv: null, functionName: null });

const step = (failure: HsmFailure, more: Partial<FailedAttempt> = {}): NextStep =>
  nextStep({
    operation: 'decrypt',
    failure,
    retries: 0,
    refusedElsewhere: false,
    msLeft: 100,
    ...more,
  });

t.test('the table', async (t) => {
  const late = { msLeft: failoverMsMin - 1 };
  const again = { retries: 1 };
  const rows: readonly (readonly [HsmFailure, Partial<FailedAttempt>, NextStep])[] = [
    // What the token did to it: one retry, if there is time.
    ...(['failed', 'token-unavailable', 'deadline'] as const).flatMap(
      (kind) =>
        [
          [called(kind), {}, 'retry'],
          [called(kind), { msLeft: failoverMsMin }, 'retry'],
          [called(kind), late, 'answer'],
          [called(kind), again, 'answer'],
          [called(kind), { operation: 'encrypt' }, 'retry'],
        ] as const,
    ),
    // What it refused at once costs nothing: on, until somebody has room.
    [refused('token-unavailable'), {}, 'refused'],
    [refused('token-unavailable'), { ...late, ...again }, 'refused'],
    [refused('overloaded'), {}, 'refused'],
    [refused('overloaded'), { ...late, ...again }, 'refused'],
    // Whoever holds the key is found.
    [called('key-lost'), {}, 'refused'],
    [called('key-lost'), again, 'refused'],
    [called('key-lost'), late, 'answer'],
    // X-X2: two tokens say so, or the only one that can be asked.
    [called('bad-ciphertext'), {}, 'second-opinion'],
    [called('bad-ciphertext'), { ...late, ...again }, 'second-opinion'],
    [called('bad-ciphertext'), { refusedElsewhere: true }, 'answer'],
    [refused('bad-ciphertext'), {}, 'answer'],
    [called('bad-ciphertext'), { operation: 'encrypt' }, 'retry'],
    // Another token may open it, or say that it is bad.
    [doubted, {}, 'retry'],
    [doubted, late, 'answer'],
    // X-E5: no token takes more than another.
    [refused('too-large'), {}, 'answer'],
  ];
  for (const [failure, more, expected] of rows) {
    t.equal(step(failure, more), expected, `${JSON.stringify(failure)} ${JSON.stringify(more)}`);
  }
});

t.test('which failure is the answer, in either order', async (t) => {
  const rows: readonly (readonly [HsmFailure, HsmFailure, HsmFailure['kind']])[] = [
    // A token that failed over it may be why it looks bad.
    [called('bad-ciphertext'), called('failed'), 'failed'],
    [called('bad-ciphertext'), called('deadline'), 'deadline'],
    [called('bad-ciphertext'), refused('overloaded'), 'overloaded'],
    // A token that could not be asked, or has not got the key, has no opinion.
    [called('bad-ciphertext'), refused('token-unavailable'), 'bad-ciphertext'],
    [called('bad-ciphertext'), called('key-lost'), 'bad-ciphertext'],
    // Who is not sure has none either, and does not unsay another one's; but there is none without that.
    [called('bad-ciphertext'), doubted, 'bad-ciphertext'],
    [doubted, called('failed'), 'failed'],
    [doubted, refused('token-unavailable'), 'failed'],
    [doubted, called('key-lost'), 'failed'],
    // 429 only where none had room.
    [refused('overloaded'), called('failed'), 'failed'],
    [refused('overloaded'), refused('token-unavailable'), 'overloaded'],
    [refused('overloaded'), called('key-lost'), 'overloaded'],
    // The one that holds it is away: nothing is lost for good.
    [called('key-lost'), refused('token-unavailable'), 'token-unavailable'],
    [called('key-lost'), called('failed'), 'failed'],
  ];
  for (const [one, other, expected] of rows) {
    t.equal(tellingFailure(one, other).kind, expected);
    t.equal(tellingFailure(other, one).kind, expected);
  }
  t.equal(tellingFailure(null, called('key-lost')).kind, 'key-lost');
  t.equal(tellingFailure(called('failed'), called('deadline')).kind, 'deadline', 'of equals the last');
});

t.test('what speaks against a token', async (t) => {
  for (const kind of ['failed', 'token-unavailable'] as const) {
    t.ok(isTokenFault('encrypt', called(kind), 0), kind);
  }
  t.notOk(isTokenFault('decrypt', doubted, 1_000), 'the ciphertext may be bad');
  t.ok(isTokenFault('decrypt', called('deadline'), failoverMsMin));
  t.notOk(isTokenFault('decrypt', called('deadline'), failoverMsMin - 1), 'it had no time');
  for (const kind of ['bad-ciphertext', 'overloaded', 'key-lost', 'too-large'] as const) {
    t.notOk(isTokenFault('decrypt', called(kind), 1_000), kind);
  }
  t.ok(isTokenFault('encrypt', called('bad-ciphertext'), 0), 'X-E4: it made that itself');
});
