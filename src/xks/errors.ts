/** Names and statuses of the specification's error table. */
const statusByName = {
  ValidationException: 400,
  InvalidStateException: 400,
  InvalidCiphertextException: 400,
  InvalidKeyUsageException: 400,
  AuthenticationFailedException: 401,
  AccessDeniedException: 403,
  KeyNotFoundException: 404,
  InvalidUriPathException: 404,
  ThrottlingException: 429,
  InternalException: 500,
  /** 405 for a method other than POST: `unsupportedMethod`. */
  UnsupportedOperationException: 501,
  DependencyTimeoutException: 503,
} as const;

export type XksErrorName = keyof typeof statusByName;

/** An answer other than 200. */
export interface XksError {
  readonly status: number;
  readonly errorName: XksErrorName;
  /** Seen by the customer in CloudWatch, never by KMS's caller. No secret, no plaintext, no hint on authentication. */
  readonly errorMessage: string;
}

/** The specification wants fewer than 512 characters of printable ASCII. */
const errorMessageCharactersMax = 511;

/** The one answer to whatever is wrong with a signature: nothing in it depends on the reason (X-A3). */
export const authenticationFailed: XksError = Object.freeze({
  status: statusByName.AuthenticationFailedException,
  errorName: 'AuthenticationFailedException',
  errorMessage: 'The request is not authenticated.',
});

/** An error with the status of its name. Authentication has its own, `authenticationFailed`. */
export function xksError(
  errorName: Exclude<XksErrorName, 'AuthenticationFailedException'>,
  errorMessage: string,
): XksError {
  return { status: statusByName[errorName], errorName, errorMessage };
}

/** X-T4: the answer to any method but `POST` on an API URI; goes with `Allow: POST`. */
export function unsupportedMethod(): XksError {
  return { status: 405, errorName: 'UnsupportedOperationException', errorMessage: 'Use POST.' };
}

/** The JSON body of an error. The message is cut and cleaned to what the specification allows. */
export function errorBody(error: XksError): Buffer {
  const errorMessage = error.errorMessage.slice(0, errorMessageCharactersMax).replace(/[^\x20-\x7e]/g, '?');
  return Buffer.from(JSON.stringify({ errorName: error.errorName, errorMessage }));
}

/** How KMS counts an error in its `XksProxyErrors` metric (X-X2). */
export function errorType(error: XksError): 'retryable' | 'non_retryable' {
  return error.status >= 500 || error.status === 429 ? 'retryable' : 'non_retryable';
}
