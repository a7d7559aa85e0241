import { countingEncryptions } from '../../src/hsm/encryption-count.js';
import { ivLimits } from '../../src/keystate/iv-budget.js';
import { KeyState } from '../../src/keystate/key-state.js';
import { mintRequestId, requestIdRandomBytes } from '../../src/keystate/request-id.js';
import type { Command, CommandEnvelope, SealedBytes } from '../../src/keystate/types.js';
import type { RequestObservation } from '../../src/ops/metrics.js';
import type { TokenStatus } from '../../src/ops/state-link.js';
import type { HttpAnswer, HttpHandler, HttpRequest } from '../../src/serving/http/exchange.js';
import { IvAccounts } from '../../src/serving/iv-accounts.js';
import { createPipeline, type PipelineDependencies } from '../../src/serving/pipeline.js';
import { SecretStore } from '../../src/serving/secret-store.js';
import { FreshnessTracker } from '../../src/serving/state-freshness.js';
import { signRequest } from '../../src/sigv4/sign.js';
import { checkSignature } from '../../src/sigv4/signature-check.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { CapturedLogger } from './captured-logger.js';
import { SeededRandom } from './seeded-random.js';
import { SoftwareCrypto } from './software-crypto.js';
import { VirtualTime } from './virtual-time.js';

/** Ids and secrets of the fixture. `other` is a second key store, `adopted` one that came from another proxy. */
export const names = {
  prefix: 'tenant/one',
  accessKeyId: 'AAAAAAAAAAAAAAAAAAAAAAAAA2',
  secretAccessKey: 'first+secret/abcdefghijklmnopqrstuvwxyz0123456789',
  otherAccessKeyId: 'BBBBBBBBBBBBBBBBBBBBBBBBB3',
  otherSecretAccessKey: 'other+secret/abcdefghijklmnopqrstuvwxyz0123456789',
  adoptedAccessKeyId: 'CCCCCCCCCCCCCCCCCCCCCCCCC4',
  region: 'eu-central-1',
} as const;

const witness: SealedBytes = {
  nonce: new Uint8Array(12).fill(1),
  ciphertext: new Uint8Array(32).fill(2),
  tag: new Uint8Array(16).fill(3),
};

type Unwrapped<C> = C extends unknown ? Omit<C, keyof CommandEnvelope> : never;
/** A command without its envelope. */
export type BareCommand = Unwrapped<Command>;

export interface Call {
  readonly method?: string;
  readonly target?: string;
  readonly body?: object | string | Uint8Array;
  readonly accessKeyId?: string;
  readonly secretAccessKey?: string;
  readonly region?: string;
  readonly signed?: boolean;
  /** Of the signature, against the fixture's clock. */
  readonly skewMs?: number;
  readonly receivedAtMs?: number;
  /** Changes the request after it was signed. */
  readonly tamper?: (request: HttpRequest) => HttpRequest;
}

export interface Answered {
  readonly status: number;
  readonly text: string;
  readonly json: Readonly<Record<string, unknown>>;
  readonly headers: Readonly<Record<string, string>>;
}

export const keyMetadata = {
  awsPrincipalArn: 'arn:aws:iam::123456789012:user/Alice',
  kmsKeyArn: 'arn:aws:kms:eu-central-1:123456789012:key/1',
  kmsOperation: 'Encrypt',
  kmsRequestId: 'a8a4b1c2-request',
} as const;

export const encryptRequest = (plaintext: string | Uint8Array, more: object = {}): object => ({
  requestMetadata: keyMetadata,
  plaintext: Buffer.from(plaintext).toString('base64'),
  encryptionAlgorithm: 'AES_GCM',
  ...more,
});

/** The decrypt of what an encrypt answered. */
export const decryptRequest = (encrypted: Readonly<Record<string, unknown>>, more: object = {}): object => {
  const { ciphertextDataIntegrityValue: _, ...fields } = encrypted;
  return {
    requestMetadata: { ...keyMetadata, kmsOperation: 'Decrypt' },
    encryptionAlgorithm: 'AES_GCM',
    ...fields,
    ...more,
  };
};

export const healthRequest = { requestMetadata: { kmsRequestId: 'r1', kmsOperation: 'KmsHealthCheck' } };
export const metadataRequest = { requestMetadata: keyMetadata };

/** A pipeline over real key state, real signatures and real sealing; the HSM is software, time stands still. */
export class PipelineFixture {
  readonly time = new VirtualTime();
  readonly logger = new CapturedLogger();
  readonly crypto = new SoftwareCrypto();
  readonly ivs: IvAccounts;
  readonly secrets = new SecretStore(new SeededRandom(1));
  readonly observations: RequestObservation[] = [];
  readonly authFailures: string[] = [];
  readonly used: string[] = [];
  state: KeyState | null = new KeyState();
  /** Boot clock; as of now everything is confirmed. */
  bootMs = 1_000_000;
  readonly freshness = new FreshnessTracker(() => this.bootMs);
  tokens: TokenStatus[] = [tokenStatus({})];
  readonly handler: HttpHandler;
  readonly #keyState: KeyState;

  /** @param encryptionsMax with random IVs, of each key. */
  constructor(
    overrides: Partial<PipelineDependencies> = {},
    encryptionsMax: number = ivLimits.encryptionsMax,
  ) {
    this.ivs = new IvAccounts({ clock: this.time, encryptionsMax });
    this.#keyState = this.state ?? new KeyState();
    this.secrets.install(new SeededRandom(2).bytes(32));
    this.freshness.confirmed(this.bootMs);
    this.freshness.standingChanged({ mayServe: true, reason: '', fleetSize: 1 });
    this.#fill();
    this.handler = createPipeline({
      state: () => this.state,
      freshness: this.freshness,
      secrets: this.secrets,
      signingKeys: new SigningKeyCache(),
      checkSignature,
      credentialUse: { used: (accessKeyId) => void this.used.push(accessKeyId) },
      crypto: countingEncryptions(this.crypto, this.ivs),
      ivs: this.ivs,
      hsmName: () => '0123456789abcdef',
      tokens: () => this.tokens,
      proxy: () => ({ fleetSize: 1, version: '9.9.9' }),
      metrics: {
        observeRequest: (observation) => void this.observations.push(observation),
        authFailure: (reason) => void this.authFailures.push(reason),
      },
      logger: this.logger,
      clock: this.time,
      timers: this.time,
      requestDeadlineMs: 150,
      ...overrides,
    });
  }

  apply(command: BareCommand): void {
    const index = this.#keyState.appliedIndex + 1;
    // The spread of a union is no union to the compiler.
    const requestId = mintRequestId(index, new Uint8Array(requestIdRandomBytes));
    const enveloped = { ...command, requestId, atMs: index, by: 'test' } as Command;
    const result = this.#keyState.apply(index, enveloped);
    if (!result.ok) throw new Error(result.error.message);
  }

  addKey(keyStore: string, externalKeyId: string, usage: readonly string[]): void {
    const objectId = Buffer.from(`${keyStore}/${externalKeyId}`).toString('hex');
    this.crypto.add(objectId);
    this.apply({
      type: 'key.create',
      keyStore,
      externalKeyId,
      objectId,
      witness: usage.includes('ENCRYPT') && usage.includes('DECRYPT') ? witness : null,
      checkValue: null,
      usage,
      description: '',
    });
  }

  addCredential(keyStore: string, accessKeyId: string, secretAccessKey: string): void {
    const sealedSecret = this.secrets.seal({ keyStore, accessKeyId }, Buffer.from(secretAccessKey));
    if (sealedSecret === null) throw new Error('no cluster secret');
    this.apply({ type: 'credential.create', keyStore, accessKeyId, sealedSecret });
  }

  /** Sets the rule for isolation of a key store to `stop`. */
  stopInIsolation(name: string, boundMs: number): void {
    // Rules for isolation came with format 2.
    if (this.#keyState.activeFormat() < 2) {
      this.apply({
        type: 'cluster.init',
        clusterId: 'c',
        nodeName: 'n',
        memberId: 'm',
        address: 'n:1',
        format: 2,
      });
    }
    const revision = this.#keyState.keyStore(name)?.revision ?? 0;
    this.apply({ type: 'keystore.set', name, onIsolation: { rule: 'stop', boundMs }, revision });
  }

  #fill(): void {
    const regions = [names.region];
    const type = 'keystore.create';
    this.apply({ type, name: 'one', uriPathPrefix: names.prefix, regions, adopted: false });
    this.apply({ type, name: 'other', uriPathPrefix: 'other', regions, adopted: false });
    this.apply({ type, name: 'adopted', uriPathPrefix: 'adopted', regions, adopted: true });
    this.addCredential('one', names.accessKeyId, names.secretAccessKey);
    this.addCredential('other', names.otherAccessKeyId, names.otherSecretAccessKey);
    this.addCredential('adopted', names.adoptedAccessKeyId, names.secretAccessKey);
    this.addKey('one', 'key', ['ENCRYPT', 'DECRYPT']);
    this.addKey('one', 'encrypt-only', ['ENCRYPT']);
    this.addKey('one', 'decrypt-only', ['DECRYPT']);
    this.addKey('one', 'impotent', ['SIGN', 'VERIFY']);
    this.addKey('adopted', 'key', ['ENCRYPT', 'DECRYPT']);
  }

  request(call: Call = {}): HttpRequest {
    const { body = healthRequest } = call;
    const bytes =
      body instanceof Uint8Array
        ? Uint8Array.from(body)
        : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const unsigned: HttpRequest = {
      method: call.method ?? 'POST',
      target: call.target ?? `/${names.prefix}/kms/xks/v1/health`,
      authority: 'xks.example.com',
      headers: [
        ['host', 'xks.example.com'],
        ['content-type', 'application/json'],
      ],
      body: bytes,
      httpVersion: '1.1',
      receivedAtMs: call.receivedAtMs ?? this.time.monotonicMs(),
      remoteAddress: '192.0.2.1',
    };
    const signed =
      call.signed === false
        ? unsigned
        : {
            ...unsigned,
            headers: [
              ...unsigned.headers,
              ...signRequest(unsigned, {
                nowMs: this.time.wallMs() + (call.skewMs ?? 0),
                region: call.region ?? names.region,
                service: 'kms-xks-proxy',
                accessKeyId: call.accessKeyId ?? names.accessKeyId,
                secretAccessKey: Buffer.from(call.secretAccessKey ?? names.secretAccessKey),
              }),
            ],
          };
    return call.tamper?.(signed) ?? signed;
  }

  async call(call: Call = {}): Promise<Answered> {
    return answered(await this.handler(this.request(call)));
  }

  /** On a key of `one`. */
  onKey(externalKeyId: string, action: 'encrypt' | 'decrypt' | 'metadata', body: object | string) {
    return this.call({ target: `/${names.prefix}/kms/xks/v1/keys/${externalKeyId}/${action}`, body });
  }

  /** On the key of `adopted`. */
  onAdopted(action: 'encrypt' | 'decrypt', body: object) {
    const target = `/adopted/kms/xks/v1/keys/key/${action}`;
    return this.call({ target, body, accessKeyId: names.adoptedAccessKeyId });
  }
}

export function answered({ status, body, headers }: HttpAnswer): Answered {
  const text = Buffer.from(body).toString('utf8');
  return { status, text, json: JSON.parse(text), headers: headers ?? {} };
}

export function tokenStatus(changes: Partial<TokenStatus>): TokenStatus {
  return {
    uri: 'pkcs11:token=soft',
    label: 'soft',
    serial: '0123456789abcdef',
    manufacturer: 'Example Corp',
    model: 'Model X',
    firmware: '1.0',
    state: 'ACTIVE',
    reason: null,
    sessions: 1,
    stuckCells: 0,
    ...changes,
  };
}
