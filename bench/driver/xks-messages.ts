import { isJsonObject } from '../../src/base/guards.js';
import { computeCdiv } from '../../src/xks/cdiv.js';

export type Operation = 'encrypt' | 'decrypt';

/** What the bodies of requests hold. Bytes are random. */
export interface BodyShape {
  readonly plaintextBytes: number;
  readonly aadBytes: number;
  /** Ask for the integrity value (X-E4). */
  readonly cdiv: boolean;
}

/** Base64, as in the message. */
export interface Message {
  readonly plaintext: string;
  readonly aad: string;
}

const requestMetadata = {
  awsPrincipalArn: 'arn:aws:iam::123456789012:user/bench',
  kmsKeyArn: 'arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000',
  kmsRequestId: '00000000-0000-0000-0000-000000000000',
  kmsViaService: 's3',
};

export function encryptBody(message: Message, cdiv: boolean): Buffer {
  return json({
    requestMetadata: { ...requestMetadata, kmsOperation: 'GenerateDataKey' },
    plaintext: message.plaintext,
    additionalAuthenticatedData: message.aad,
    encryptionAlgorithm: 'AES_GCM',
    ...(cdiv && { ciphertextDataIntegrityValueAlgorithm: 'SHA_256' }),
  });
}

/** Asks for what `encrypted`, the answer to the encrypt of a message with this AAD, holds. */
export function decryptBody(encrypted: Readonly<Record<string, unknown>>, aad: string): Buffer {
  const { ciphertext, ciphertextMetadata, initializationVector, authenticationTag } = encrypted;
  return json({
    requestMetadata: { ...requestMetadata, kmsOperation: 'Decrypt' },
    ciphertext,
    ...(ciphertextMetadata !== undefined && { ciphertextMetadata }),
    initializationVector,
    authenticationTag,
    additionalAuthenticatedData: aad,
    encryptionAlgorithm: 'AES_GCM',
  });
}

const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));

/** The answer to an encrypt, `null` where it is none. */
export function parseEncrypted(body: Buffer): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return isJsonObject(value) && typeof value['ciphertext'] === 'string' ? value : null;
  } catch {
    return null;
  }
}

/** Whether the integrity value of an encrypt's answer is that of its other fields (X-E4). */
export function cdivMatches(encrypted: Readonly<Record<string, unknown>>, aad: string): boolean {
  const bytes = (value: unknown): Buffer => Buffer.from(typeof value === 'string' ? value : '', 'base64');
  const metadata = encrypted['ciphertextMetadata'];
  const computed = computeCdiv({
    aad: bytes(aad),
    ciphertextMetadata: metadata === undefined ? null : bytes(metadata),
    iv: bytes(encrypted['initializationVector']),
    ciphertext: bytes(encrypted['ciphertext']),
    tag: bytes(encrypted['authenticationTag']),
  });
  return Buffer.from(computed).toString('base64') === encrypted['ciphertextDataIntegrityValue'];
}

/** Whether the answer to a decrypt gives this plaintext, Base64. */
export function holdsPlaintext(body: Buffer, plaintext: string): boolean {
  // Nearly always as it was sent, and then there is nothing to parse.
  if (plaintext !== '' && body.includes(`"${plaintext}"`)) return true;
  try {
    const value: unknown = JSON.parse(body.toString('utf8'));
    return isJsonObject(value) && value['plaintext'] === plaintext;
  } catch {
    return false;
  }
}

/** What a failed answer is counted under: its status and the name of its error. */
export function failureName(status: number, body: Buffer): string {
  const name = /"errorName"\s*:\s*"(\w{1,60})"/.exec(body.toString('latin1', 0, 1_000))?.[1];
  return name === undefined ? `${status}` : `${status} ${name}`;
}
