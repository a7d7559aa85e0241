import { err, ok } from '../../src/base/result.js';
import { noCalls } from '../../src/hsm/call-counts.js';
import type {
  ManagementError,
  ManagementResult,
  ObjectDescription,
} from '../../src/hsm/management-protocol.js';
import type { Token, TokenManagement } from '../../src/hsm/token.js';
import type { KeyObject } from '../../src/hsm/types.js';
import type { TokenStatus } from '../../src/ops/state-link.js';
import { tokenStatus } from './pipeline-fixture.js';
import { SoftwareCrypto } from './software-crypto.js';

/** A token of the mind at the seam of `hsm/`: for what real ones don't do when asked. */
export class SoftwareToken implements Token {
  readonly crypto = new SoftwareCrypto();
  readonly objects: ObjectDescription[] = [];
  firstAttempt: Promise<void> = Promise.resolve();
  current: TokenStatus = tokenStatus({});
  testKey: KeyObject | null = null;
  readonly logins: ('forgiving' | 'unforgiving')[] = [];
  /** What a canary finds. */
  canaryResult: Awaited<ReturnType<Token['canary']>> = 'passed';
  canaries = 0;
  readonly probes: boolean[] = [];
  probeResult: Awaited<ReturnType<Token['probe']>> = err('it is not logged in');
  stuck: string | null = null;
  /** When set, the answer to every management call. */
  failure: ManagementError | null = null;
  /** Whether what it is asked to do never returns. */
  hangs = false;
  readonly #listeners = new Set<(status: TokenStatus) => void>();

  readonly management: TokenManagement = {
    listObjects: async () => {
      await this.#returned();
      return this.#answer({ objects: this.objects, truncated: false });
    },
    findObject: async ({ objectId, label }) => {
      await this.#returned();
      const found = this.objects.filter(
        (object) =>
          (objectId === null || object.objectId === objectId) && (label === null || object.label === label),
      );
      const [first] = found;
      if (first === undefined) return this.#answer(null, 'object-not-found');
      return found.length > 1 ? this.#answer(null, 'object-ambiguous') : this.#answer(first);
    },
    generateKey: async ({ objectId, label }) => {
      const answer = this.#answer(this.describe({ objectId, label }));
      if (answer.ok) this.add(answer.value);
      return answer;
    },
  };

  calls(): ReturnType<Token['calls']> {
    return noCalls;
  }

  describe(changes: Partial<ObjectDescription>): ObjectDescription {
    return {
      objectId: '01',
      label: '',
      keyType: 'CKK_AES',
      keyBits: 256,
      usage: ['ENCRYPT', 'DECRYPT'],
      sensitive: true,
      extractable: false,
      checkValue: null,
      ...changes,
    };
  }

  add(object: ObjectDescription): void {
    this.objects.push(object);
    this.crypto.add(object.objectId);
  }

  status(): TokenStatus {
    return this.current;
  }

  setTestKey(key: KeyObject | null): void {
    this.testKey = key;
  }

  onChange(listener: (status: TokenStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  change(changes: Partial<TokenStatus>): void {
    this.current = { ...this.current, ...changes };
    for (const listener of this.#listeners) listener(this.current);
  }

  async retryLogin(forgive: boolean): Promise<TokenStatus> {
    this.logins.push(forgive ? 'forgiving' : 'unforgiving');
    await this.#returned();
    return this.current;
  }

  async probe(accept: boolean): ReturnType<Token['probe']> {
    this.probes.push(accept);
    return this.probeResult;
  }

  async canary(): ReturnType<Token['canary']> {
    this.canaries += 1;
    return this.canaryResult;
  }

  beyondRecovery(): string | null {
    return this.stuck;
  }

  async close(): Promise<void> {}

  async #returned(): Promise<void> {
    if (this.hangs) await new Promise(() => {});
  }

  #answer(value: null, code: ManagementError['code']): ManagementResult<never>;
  #answer<T>(value: T): ManagementResult<T>;
  #answer<T>(value: T, code?: ManagementError['code']): ManagementResult<T> {
    if (this.failure !== null) return err(this.failure);
    if (code === undefined) return ok(value);
    return err({ code, rv: null, functionName: null, message: `${code}: as the token says` });
  }
}
