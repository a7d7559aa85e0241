import { randomBytes } from 'node:crypto';
import type { TokenProfile } from '../../src/hsm/profile/token-profile.js';
import type {
  HsmReply,
  HsmRequest,
  KeyOnToken,
  ObjectDescription,
  WitnessJson,
} from '../../src/ops/state-link.js';
import { FakeTrials } from '../support/fake-trials.js';
import { activeToken, type HsmScript } from './fake-serving-process.js';

const hex = (length: number): string => randomBytes(length).toString('hex');

const witness = (): WitnessJson => ({ iv: hex(12), ciphertext: hex(32), tag: hex(16) });

export const aesObject = (changes: Partial<ObjectDescription> = {}): ObjectDescription => ({
  objectId: hex(16),
  label: '',
  keyType: 'CKK_AES',
  keyBits: 256,
  usage: ['ENCRYPT', 'DECRYPT'],
  sensitive: true,
  extractable: false,
  checkValue: 'a1b2c3',
  ...changes,
});

/** Of the one cluster secret. */
const secretCheckValue = hex(8);

const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** What a serving process with a token would answer; its objects are a list. */
export class FakeHsm {
  readonly objects: ObjectDescription[] = [];
  readonly requests: HsmRequest[] = [];
  testOutcome: 'passed' | 'failed' = 'passed';
  /** What an inspection finds on the tokens. */
  onTokens: KeyOnToken[] = [{ token: 'fake', holds: 'yes', reason: null }];
  /** Why the objects cannot be listed, while they cannot. */
  unlisted: string | null = null;
  /** Secrets that were minted, by access key id. */
  readonly secrets = new Map<string, string>();
  probeVerdict: 'agrees' | 'differs' = 'agrees';
  /** When set, probes are real ones, of this, by `trials`. */
  profile: TokenProfile | null = null;
  trials = new FakeTrials();
  readonly #testKey = aesObject({ label: 'xksd-test' });
  readonly #wrappingKey = aesObject({ label: 'xksd-wrapping' });
  readonly #serial: string;
  #prepared = false;

  constructor(serial = '0001') {
    this.#serial = serial;
  }

  readonly answer: HsmScript = (request) => {
    this.requests.push(request);
    const done = (value: unknown): HsmReply => ({ id: request.id, ok: true, value });
    switch (request.op) {
      case 'list-objects':
        return done({
          tokens: [
            {
              token: activeToken,
              objects: this.unlisted === null ? this.objects : null,
              unlisted: this.unlisted,
            },
          ],
        });
      case 'prepare-token': {
        if (request.place > 0) {
          return { id: request.id, ok: false, code: 'no-such-token', message: 'there is one token' };
        }
        const isNew = !this.#prepared;
        this.#prepared = true;
        if (isNew) this.objects.push(this.#testKey, this.#wrappingKey);
        return done({
          token: activeToken,
          serial: this.#serial,
          label: 'fake',
          testKey: { objectId: this.#testKey.objectId, witness: witness() },
          wrappingKey: { objectId: this.#wrappingKey.objectId, witness: witness() },
          wrappedSecret: isNew ? { ...witness(), checkValue: secretCheckValue } : null,
          created: isNew ? ['xksd-test', 'xksd-wrapping'] : [],
        });
      }
      case 'generate-key': {
        const object = aesObject({ label: request.label });
        this.objects.push(object);
        return done({ object, witness: witness() });
      }
      case 'inspect-key': {
        const found = this.objects.filter(
          ({ objectId, label }) => objectId === request.objectId || label === request.label,
        );
        const [object] = found;
        const named = request.objectId ?? request.label;
        if (object === undefined) {
          return { id: request.id, ok: false, code: 'object-not-found', message: `no object ${named}` };
        }
        if (found.length > 1) {
          const message = `${found.length} objects ${named}`;
          return { id: request.id, ok: false, code: 'object-ambiguous', message };
        }
        const canBoth = object.usage.includes('ENCRYPT') && object.usage.includes('DECRYPT');
        return done({ object, witness: canBoth ? witness() : null, tokens: this.onTokens });
      }
      case 'test-tokens':
        return done({ tokens: [{ token: activeToken, outcome: this.testOutcome, tookMs: 1.25 }] });
      case 'probe-tokens':
        if (this.profile !== null) {
          return this.profile.probe(this.trials, request.accept !== null).then((probe) => ({
            ...{ id: request.id, ok: true },
            value: { tokens: [{ token: activeToken, ...probe }] },
          }));
        }
        return done({
          tokens: [
            {
              token: activeToken,
              stated: 'auto',
              pinned: 'takes IVs',
              found: 'makes IVs',
              verdict: request.accept === null ? this.probeVerdict : 'accepted',
              reason: null,
              cases: [{ what: 'decrypt: a wrong tag', answer: 'C_Decrypt returned CKR_GENERAL_ERROR' }],
            },
          ],
        });
      case 'locate-key':
        return done({ tokens: this.onTokens });
      case 'mint-credential': {
        const accessKeyId = [...randomBytes(24)].map((byte) => alphabet[byte % 32]).join('');
        const secretAccessKey = randomBytes(48).toString('base64');
        this.secrets.set(accessKeyId, secretAccessKey);
        return done({
          accessKeyId,
          secretAccessKey,
          sealed: { nonce: hex(12), ciphertext: hex(64), tag: hex(16) },
        });
      }
      case 'retry-login':
        return done({ tokens: [activeToken] });
    }
  };
}
