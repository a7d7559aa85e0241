import { createDecipheriv } from 'node:crypto';
import {
  cdivMatches,
  failureName,
  type Message,
  type Operation,
  parseEncrypted,
} from '../../bench/driver/xks-messages.js';
import { isJsonObject } from '../../src/base/guards.js';
import { frameAad } from '../../src/xks/gcm-aad.js';

/** What was asked. */
export interface Question {
  readonly operation: Operation;
  readonly message: Message;
  /** Of an encrypt: whether the integrity value was asked for (X-E4). */
  readonly cdiv: boolean;
  /** A decrypt whose AAD is not that of the encrypt: the caller's fault, and to be told so. */
  readonly spoiled: boolean;
}

/**
 * `failed`: one that KMS tries again, 429 or 5xx. `wrong`: whatever is not true: a status that blames the caller, bytes
 * that are not those of the key.
 */
export interface AnswerVerdict {
  readonly kind: 'right' | 'failed' | 'wrong';
  /** For people and for counting: one of few. */
  readonly what: string;
  /** 429: there was no room for it. */
  readonly isRefusal?: boolean;
}

const right: AnswerVerdict = { kind: 'right', what: 'right' };
const wrong = (what: string): AnswerVerdict => ({ kind: 'wrong', what });

const ivBytes = 12;
const tagBytes = 16;

/** Judges answers by the bytes of the key, which the token was given: no trust in the proxy, and an IV is seen once. */
export class AnswerJudge {
  readonly #key: Uint8Array;
  readonly #ivs = new Set<string>();

  /** @param key AES-256, 32 bytes. */
  constructor(key: Uint8Array) {
    this.#key = key;
  }

  judge(question: Question, status: number, body: Buffer): AnswerVerdict {
    if (status === 429 || status >= 500)
      return { kind: 'failed', what: failureName(status, body), isRefusal: status === 429 };
    if (status !== 200) {
      const what = failureName(status, body);
      return question.spoiled && what === '400 InvalidCiphertextException' ? right : wrong(what);
    }
    return question.operation === 'encrypt' ? this.#encrypted(question, body) : decrypted(question, body);
  }

  #encrypted({ message, cdiv }: Question, body: Buffer): AnswerVerdict {
    const answer = parseEncrypted(body);
    if (answer === null) return wrong('200 without a ciphertext');
    const bytes = (field: string): Buffer => Buffer.from(String(answer[field] ?? ''), 'base64');
    const [iv, tag, ciphertext] = [
      bytes('initializationVector'),
      bytes('authenticationTag'),
      bytes('ciphertext'),
    ];
    if (iv.length !== ivBytes || tag.length !== tagBytes)
      return wrong('200 with an IV or tag of another length');
    const ivText = iv.toString('latin1');
    if (this.#ivs.has(ivText)) return wrong('200 with an IV seen before');
    this.#ivs.add(ivText);
    const metadata = answer['ciphertextMetadata'] === undefined ? null : bytes('ciphertextMetadata');
    const decipher = createDecipheriv('aes-256-gcm', this.#key, iv);
    decipher.setAAD(frameAad(Buffer.from(message.aad, 'base64'), metadata)).setAuthTag(tag);
    let plaintext: Buffer;
    try {
      plaintext = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
    } catch {
      return wrong('200 with a ciphertext that the key does not open');
    }
    if (plaintext.toString('base64') !== message.plaintext) return wrong('200 with another plaintext inside');
    return cdiv && !cdivMatches(answer, message.aad) ? wrong('200 with a false integrity value') : right;
  }
}

function decrypted({ message, spoiled }: Question, body: Buffer): AnswerVerdict {
  if (spoiled) return wrong('200 for a ciphertext with another AAD');
  let answer: unknown;
  try {
    answer = JSON.parse(body.toString('utf8'));
  } catch {
    answer = null;
  }
  return isJsonObject(answer) && answer['plaintext'] === message.plaintext
    ? right
    : wrong('200 with another plaintext');
}
