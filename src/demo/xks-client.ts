import { Agent, request } from 'undici';
import { isJsonObject } from '../base/guards.js';
import { signRequest } from '../sigv4/sign.js';

export interface XksClientOptions {
  /** `https://host:port`. */
  readonly url: string;
  readonly uriPathPrefix: string;
  readonly region: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** PEM of the authority that signed the server's certificate. */
  readonly ca: string;
}

/** Calls an XKS proxy as KMS would. */
export class XksClient {
  readonly #options: XksClientOptions;
  readonly #agent: Agent;

  constructor(options: XksClientOptions) {
    this.#options = options;
    this.#agent = new Agent({ connect: { ca: options.ca } });
  }

  /** `path` follows `/kms/xks/v1`: `/keys/ID/encrypt`, `/health`. Throws when the answer is not 200. */
  async call(path: string, payload: object): Promise<Readonly<Record<string, unknown>>> {
    const { url, uriPathPrefix, region, accessKeyId, secretAccessKey } = this.#options;
    const target = `${uriPathPrefix === '' ? '' : `/${uriPathPrefix}`}/kms/xks/v1${path}`;
    const body = Buffer.from(JSON.stringify(payload));
    const host = new URL(url).host;
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
    const answer = await request(`${url}${target}`, {
      method: 'POST',
      dispatcher: this.#agent,
      headers: { 'content-type': 'application/json', ...Object.fromEntries(signed) },
      body,
    });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`${path} answered ${answer.statusCode} ${text}`);
    const value: unknown = JSON.parse(text);
    if (!isJsonObject(value)) throw new Error(`${path} answered no JSON object`);
    return value;
  }

  close(): Promise<void> {
    return this.#agent.close();
  }
}
