import { Client, Pool } from 'undici';
import { isJsonObject } from '../../src/base/guards.js';
import { signRequest } from '../../src/sigv4/sign.js';
import { metadata } from '../support/running-node.js';

/** How to call a key store, of whichever node or balancer answers at `host`. */
export interface XksAccess {
  /** `127.0.0.1:port`. */
  readonly host: string;
  readonly ca: string;
  readonly uriPathPrefix: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface XksAnswer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
}

/** Far beyond KMS's own: what is slow on a busy machine is not lost. */
const answerTimeoutMs = 20_000;

/** Calls as KMS does, over connections that are kept or over a new one for each call. */
export class XksCaller {
  readonly #access: XksAccess;
  readonly #pool: Pool;

  constructor(access: XksAccess, connections: number) {
    this.#access = access;
    this.#pool = new Pool(`https://${access.host}`, { ...this.#options(), connections });
  }

  #options() {
    return {
      connect: { ca: this.#access.ca, timeout: answerTimeoutMs },
      headersTimeout: answerTimeoutMs,
      bodyTimeout: answerTimeoutMs,
      pipelining: 1,
    };
  }

  /** Rejects when no answer came. `fresh`: on a connection of its own. */
  async call(path: string, payload: object, fresh: boolean): Promise<XksAnswer> {
    if (!fresh) return this.#call(this.#pool, path, payload);
    const client = new Client(`https://${this.#access.host}`, this.#options());
    try {
      return await this.#call(client, path, payload);
    } finally {
      void client.destroy();
    }
  }

  encrypt(key: string, plaintext: string, fresh: boolean): Promise<XksAnswer> {
    return this.call(`/keys/${key}/encrypt`, { ...common('Encrypt'), plaintext }, fresh);
  }

  /** @param encrypted body of what `encrypt` answered. */
  decrypt(key: string, encrypted: XksAnswer['body'], fresh: boolean): Promise<XksAnswer> {
    return this.call(`/keys/${key}/decrypt`, { ...common('Decrypt'), ...encrypted }, fresh);
  }

  destroy(): Promise<void> {
    return this.#pool.destroy();
  }

  async #call(dispatcher: Pool | Client, path: string, payload: object): Promise<XksAnswer> {
    const { host, uriPathPrefix, region, accessKeyId, secretAccessKey } = this.#access;
    const target = `/${uriPathPrefix}/kms/xks/v1${path}`;
    const body = Buffer.from(JSON.stringify(payload));
    const signed = signRequest(
      { method: 'POST', target, authority: host, headers: [['host', host]], body },
      {
        accessKeyId,
        secretAccessKey: Buffer.from(secretAccessKey),
        region,
        service: 'kms-xks-proxy',
        nowMs: Date.now(),
      },
    );
    const answer = await dispatcher.request({
      path: target,
      method: 'POST',
      headers: { 'content-type': 'application/json', ...Object.fromEntries(signed) },
      body,
    });
    const value: unknown = JSON.parse((await answer.body.text()) || '{}');
    return { status: answer.statusCode, body: isJsonObject(value) ? value : {} };
  }
}

const common = (kmsOperation: string) => ({
  requestMetadata: { ...metadata, kmsOperation },
  encryptionAlgorithm: 'AES_GCM',
});
