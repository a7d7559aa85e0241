import t from 'tap';
import type { HsmFailure } from '../../src/hsm/types.js';
import { hsmFailureAnswer } from '../../src/serving/hsm-failure-answer.js';

type Row = readonly [status: number, errorName: string];

const table: Readonly<Record<HsmFailure['kind'], { readonly Encrypt: Row; readonly Decrypt: Row }>> = {
  'bad-ciphertext': {
    Encrypt: [500, 'InternalException'],
    Decrypt: [400, 'InvalidCiphertextException'],
  },
  deadline: {
    Encrypt: [503, 'DependencyTimeoutException'],
    Decrypt: [503, 'DependencyTimeoutException'],
  },
  'token-unavailable': {
    Encrypt: [503, 'DependencyTimeoutException'],
    Decrypt: [503, 'DependencyTimeoutException'],
  },
  overloaded: { Encrypt: [429, 'ThrottlingException'], Decrypt: [429, 'ThrottlingException'] },
  'too-large': {
    Encrypt: [501, 'UnsupportedOperationException'],
    Decrypt: [501, 'UnsupportedOperationException'],
  },
  'key-lost': { Encrypt: [500, 'InternalException'], Decrypt: [500, 'InternalException'] },
  'unsafe-iv': { Encrypt: [500, 'InternalException'], Decrypt: [500, 'InternalException'] },
  failed: { Encrypt: [500, 'InternalException'], Decrypt: [500, 'InternalException'] },
};

for (const [kind, rows] of Object.entries(table)) {
  for (const operation of ['Encrypt', 'Decrypt'] as const) {
    t.test(`X-X2: ${kind} on ${operation}`, async (t) => {
      const failure: HsmFailure = {
        kind: kind as HsmFailure['kind'],
        rv: 'CKR_DEVICE_REMOVED',
        functionName: 'C_Sign',
      };
      const error = hsmFailureAnswer(operation, failure);
      t.strictSame([error.status, error.errorName], rows[operation]);
      if (kind !== 'bad-ciphertext') {
        t.ok(error.status !== 400 && error.status !== 404, 'trouble of the HSM is not its caller’s fault');
      }
    });
  }
}

t.test('the message names the call that failed, for the operator', async (t) => {
  const message = (rv: string | null, functionName: string | null) =>
    hsmFailureAnswer('Encrypt', { kind: 'failed', rv, functionName }).errorMessage;
  t.equal(message('CKR_DEVICE_ERROR', 'C_Encrypt'), 'The HSM failed (CKR_DEVICE_ERROR from C_Encrypt).');
  t.equal(message('CKR_DEVICE_ERROR', null), 'The HSM failed (CKR_DEVICE_ERROR).');
  t.equal(message(null, null), 'The HSM failed.');
});
