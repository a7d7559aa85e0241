import t from 'tap';
import {
  authenticationFailed,
  errorBody,
  errorType,
  unsupportedMethod,
  xksError,
} from '../../src/xks/errors.js';

/** The specification's error table. */
const table = [
  ['ValidationException', 400, 'non_retryable'],
  ['InvalidStateException', 400, 'non_retryable'],
  ['InvalidCiphertextException', 400, 'non_retryable'],
  ['InvalidKeyUsageException', 400, 'non_retryable'],
  ['AccessDeniedException', 403, 'non_retryable'],
  ['KeyNotFoundException', 404, 'non_retryable'],
  ['InvalidUriPathException', 404, 'non_retryable'],
  ['ThrottlingException', 429, 'retryable'],
  ['UnsupportedOperationException', 501, 'retryable'],
  ['DependencyTimeoutException', 503, 'retryable'],
  ['InternalException', 500, 'retryable'],
] as const;

t.test('X-X1, X-X2: the error table', async (t) => {
  for (const [name, status, type] of table) {
    const error = xksError(name, 'Why.');
    t.equal(error.status, status, name);
    t.equal(errorType(error), type, name);
    t.same(JSON.parse(errorBody(error).toString()), { errorName: name, errorMessage: 'Why.' });
  }
  t.equal(authenticationFailed.status, 401);
  t.equal(authenticationFailed.errorName, 'AuthenticationFailedException');
  t.equal(errorType(authenticationFailed), 'non_retryable');
});

t.test('X-T4: a method other than POST is 405', async (t) => {
  t.match(unsupportedMethod(), { status: 405, errorName: 'UnsupportedOperationException' });
  t.equal(errorType(unsupportedMethod()), 'non_retryable');
});

t.test('X-X1: messages are fewer than 512 characters of printable ASCII', async (t) => {
  const messageOf = (message: string): string =>
    JSON.parse(errorBody(xksError('InternalException', message)).toString()).errorMessage;
  t.equal(messageOf('a"b\\c ~'), 'a"b\\c ~');
  t.equal(messageOf('tab\tnew\nline del\x7f ä € 😀'), 'tab?new?line del? ? ? ??');
  t.equal(messageOf('x'.repeat(511)).length, 511);
  t.equal(messageOf('x'.repeat(100_000)).length, 511);
  t.equal(messageOf(''), '');
});
