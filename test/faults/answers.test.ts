import { randomBytes } from 'node:crypto';
import t from 'tap';
import { computeCdiv } from '../../src/xks/cdiv.js';
import { frameAad } from '../../src/xks/gcm-aad.js';
import { seal } from '../support/crypto-pool-fixture.js';
import { AnswerJudge, type Question } from './answers.js';

const key = randomBytes(32);
const message = { plaintext: randomBytes(32).toString('base64'), aad: randomBytes(20).toString('base64') };
const encrypt: Question = { operation: 'encrypt', message, cdiv: true, spoiled: false };
const decrypt: Question = { operation: 'decrypt', message, cdiv: false, spoiled: false };
const spoiled: Question = { ...decrypt, spoiled: true };

const bytes = (text: string): Buffer => Buffer.from(text, 'base64');
const json = (value: object): Buffer => Buffer.from(JSON.stringify(value));
const error = (errorName: string): Buffer => json({ errorName });

function encrypted(under: Uint8Array, plaintext: string, iv = randomBytes(12)) {
  const aad = bytes(message.aad);
  const sealed = seal(under, iv, frameAad(aad, null), bytes(plaintext));
  const cdiv = computeCdiv({ aad, ciphertextMetadata: null, ...sealed });
  const text = (value: Uint8Array): string => Buffer.from(value).toString('base64');
  return {
    ciphertext: text(sealed.ciphertext),
    initializationVector: text(sealed.iv),
    authenticationTag: text(sealed.tag),
    ciphertextDataIntegrityValue: text(cdiv),
  };
}

t.test('encrypts are opened with the key itself', async (t) => {
  const judge = new AnswerJudge(key);
  const says = (question: Question, answer: object): string => {
    const { kind, what } = judge.judge(question, 200, json(answer));
    return kind === 'right' ? kind : `${kind}: ${what}`;
  };
  const good = encrypted(key, message.plaintext);
  t.equal(says(encrypt, good), 'right');
  t.equal(says(encrypt, good), 'wrong: 200 with an IV seen before');
  const other = encrypted(randomBytes(32), message.plaintext);
  t.equal(says(encrypt, other), 'wrong: 200 with a ciphertext that the key does not open');
  t.equal(
    says(encrypt, encrypted(key, randomBytes(32).toString('base64'))),
    'wrong: 200 with another plaintext inside',
  );
  const falseValue = {
    ...encrypted(key, message.plaintext),
    ciphertextDataIntegrityValue: randomBytes(32).toString('base64'),
  };
  t.equal(says(encrypt, falseValue), 'wrong: 200 with a false integrity value');
  const unasked = { ...encrypted(key, message.plaintext), ciphertextDataIntegrityValue: undefined };
  t.equal(says({ ...encrypt, cdiv: false }, unasked), 'right');
  t.match(says(encrypt, {}), /^wrong/);
});

t.test('decrypts', async (t) => {
  const judge = new AnswerJudge(key);
  const says = (question: Question, status: number, body: Buffer): string =>
    judge.judge(question, status, body).kind;
  t.equal(says(decrypt, 200, json({ plaintext: message.plaintext })), 'right');
  t.equal(says(decrypt, 200, json({ plaintext: randomBytes(32).toString('base64') })), 'wrong');
  t.equal(says(decrypt, 200, Buffer.from('{')), 'wrong');
  t.equal(says(decrypt, 400, error('InvalidCiphertextException')), 'wrong', 'it was authentic');
  t.equal(says(spoiled, 400, error('InvalidCiphertextException')), 'right');
  t.equal(says(spoiled, 400, error('ValidationException')), 'wrong');
  t.equal(says(spoiled, 200, json({ plaintext: message.plaintext })), 'wrong');
});

t.test('what KMS tries again is a failure, what blames the caller is a lie', async (t) => {
  const judge = new AnswerJudge(key);
  for (const status of [429, 500, 503]) t.equal(judge.judge(decrypt, status, error('X')).kind, 'failed');
  for (const status of [400, 401, 403, 404, 302])
    t.equal(judge.judge(encrypt, status, error('X')).kind, 'wrong');
});
