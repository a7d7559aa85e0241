import { createCipheriv, randomBytes } from 'node:crypto';
import { type PreparedRequest, RequestRing, RequestSigner } from '../../bench/driver/prepared-requests.js';
import { decryptBody, encryptBody, type Message } from '../../bench/driver/xks-messages.js';
import { frameAad } from '../../src/xks/gcm-aad.js';
import type { Question } from './answers.js';
import type { LoadPlan } from './load-protocol.js';

/** Different requests of each kind; then they come again. */
const distinctRequests = 256;
const renewEveryMs = 100;
const renewAtOnce = 8;
const plaintextBytes = 32;
const aadBytes = 60;

export interface LoadRequest {
  readonly request: PreparedRequest;
  readonly question: Question;
}

/** Signed requests: encrypts with and without the integrity value, decrypts, and such as carry another AAD. */
export class LoadRequests {
  readonly #signer: RequestSigner;
  readonly #rings: readonly RequestRing[];
  readonly #timer: NodeJS.Timeout;
  #sequence = 0;
  #spoiled = 0;
  /** 0 to 1, of the decrypts. */
  spoiledShare = 0;

  constructor({ access, url, keyHex }: LoadPlan) {
    this.#signer = new RequestSigner(access, url, '1.1');
    const key = Buffer.from(keyHex, 'hex');
    const make = (prepare: () => PreparedRequest): RequestRing =>
      new RequestRing(Array.from({ length: distinctRequests }, prepare), this.#signer);
    this.#rings = [
      make(() => this.#encrypt(true)),
      make(() => this.#encrypt(false)),
      make(() => this.#decrypt(key, false)),
      make(() => this.#decrypt(key, true)),
    ];
    this.#timer = setInterval(() => {
      for (const ring of this.#rings) ring.renew(renewAtOnce, Date.now());
    }, renewEveryMs);
  }

  next(): LoadRequest {
    const turn = this.#sequence % 4;
    this.#sequence += 1;
    // Two of four are decrypts.
    if (turn % 2 === 0) return this.#of(turn / 2, { cdiv: turn === 0, spoiled: false });
    this.#spoiled += this.spoiledShare;
    if (this.#spoiled < 1) return this.#of(2, { cdiv: false, spoiled: false });
    this.#spoiled -= 1;
    return this.#of(3, { cdiv: false, spoiled: true });
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #of(ring: number, how: Pick<Question, 'cdiv' | 'spoiled'>): LoadRequest {
    const request = this.#rings[ring]?.next();
    if (request === undefined) throw new Error('no such ring');
    return { request, question: { operation: request.operation, message: request.message, ...how } };
  }

  #encrypt(cdiv: boolean): PreparedRequest {
    const message = randomMessage();
    return this.#signer.prepare('encrypt', message, encryptBody(message, cdiv), Date.now());
  }

  #decrypt(key: Uint8Array, spoiled: boolean): PreparedRequest {
    const message = randomMessage();
    const iv = randomBytes(12);
    const cipher = createCipheriv('aes-256-gcm', key, iv);
    cipher.setAAD(frameAad(Buffer.from(message.aad, 'base64'), null));
    const ciphertext = Buffer.concat([cipher.update(message.plaintext, 'base64'), cipher.final()]);
    const encrypted = {
      ciphertext: ciphertext.toString('base64'),
      initializationVector: iv.toString('base64'),
      authenticationTag: cipher.getAuthTag().toString('base64'),
    };
    const body = decryptBody(encrypted, spoiled ? randomMessage().aad : message.aad);
    return this.#signer.prepare('decrypt', message, body, Date.now());
  }
}

const randomMessage = (): Message => ({
  plaintext: randomBytes(plaintextBytes).toString('base64'),
  aad: randomBytes(aadBytes).toString('base64'),
});
