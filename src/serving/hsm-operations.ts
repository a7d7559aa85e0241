import { encodeHex, wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { errorText, unreachable } from '../base/guards.js';
import type { Logger } from '../base/logger.js';
import type { RandomSource } from '../base/random.js';
import { ok } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import type { KeyStateQueries, SealedBytes } from '../keystate/types.js';
import type { HsmOperation, HsmReply, HsmReplyValues } from '../ops/state-link.js';
import { mintAccessKeyId, mintSecretAccessKey } from '../sigv4/credentials.js';
import { answering } from './answering-token.js';
import { parseHsmRequest } from './hsm-request.js';
import { inspectKey, locateKey } from './key-inspection.js';
import {
  type AdministeredToken,
  fault,
  KeyObjects,
  type Outcome,
  tokenName,
  witnessJson,
} from './key-objects.js';
import type { SecretStore } from './secret-store.js';
import { noSecret, TokenPreparation } from './token-preparation.js';

/** Requests under way. The replica asks for at most as many. */
const requestsMax = 32;

export interface HsmOperationsOptions {
  /** At least one. */
  readonly tokens: readonly AdministeredToken[];
  readonly secrets: SecretStore;
  readonly state: () => KeyStateQueries | null;
  readonly random: RandomSource;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
}

/** What administration asks of the HSM, done here because only serving processes load PKCS#11 modules. */
export class HsmOperations {
  readonly #options: HsmOperationsOptions;
  #underWay = 0;

  constructor(options: HsmOperationsOptions) {
    const tokens = options.tokens.map((token) => answering(token, options.timers));
    this.#options = { ...options, tokens };
  }

  /** Answers a request off the state link; `null` for one without an id, which nobody could be told about. */
  async answer(payload: Readonly<Record<string, unknown>>): Promise<HsmReply | null> {
    const request = parseHsmRequest(payload);
    if (request === null) return null;
    const { id } = request;
    if (!request.ok) return { id, ok: false, code: 'failed', message: request.message };
    if (this.#underWay >= requestsMax) {
      return { id, ok: false, code: 'failed', message: `${requestsMax} requests are under way already` };
    }
    this.#underWay += 1;
    try {
      const outcome = await this.#run(request.operation);
      return outcome.ok ? { id, ok: true, value: outcome.value } : { id, ok: false, ...outcome.error };
    } catch (thrown) {
      this.#options.logger.error('a bug ended an HSM operation', { op: request.operation.op, error: thrown });
      return { id, ok: false, code: 'failed', message: `a bug of xksd: ${errorText(thrown)}` };
    } finally {
      this.#underWay -= 1;
    }
  }

  #run(operation: HsmOperation): Promise<Outcome<HsmReplyValues[HsmOperation['op']]>> {
    switch (operation.op) {
      case 'list-objects':
        return this.#listObjects();
      case 'test-tokens':
        return this.#testTokens();
      case 'probe-tokens':
        return this.#probeTokens(operation.accept);
      case 'prepare-token':
        return this.#prepareToken(operation.place);
      case 'generate-key':
        return this.#generateKey(operation.label, operation.singleToken);
      case 'inspect-key':
        return inspectKey(this.#options, { objectId: operation.objectId, label: operation.label });
      case 'locate-key':
        return locateKey(this.#options, operation);
      case 'mint-credential':
        return this.#mintCredential(operation.keyStore);
      case 'retry-login':
        return this.#retryLogin(operation.forgive);
      default:
        return unreachable(operation);
    }
  }

  async #listObjects(): Promise<Outcome<HsmReplyValues['list-objects']>> {
    const tokens = await Promise.all(
      this.#options.tokens.map(async (token) => {
        const listing = await token.management.listObjects();
        // That a token cannot be looked at must not read as if nothing were on it.
        const shown = listing.ok
          ? { objects: listing.value.objects, unlisted: null }
          : { objects: null, unlisted: listing.error.message };
        return { listing, shown: { token: token.status(), ...shown } };
      }),
    );
    const [only] = tokens.length === 1 ? tokens : [];
    if (only !== undefined && !only.listing.ok && only.listing.error.code !== 'token-unavailable') {
      return fault(only.listing.error);
    }
    return ok({ tokens: tokens.map(({ shown }) => shown) });
  }

  async #testTokens(): Promise<Outcome<HsmReplyValues['test-tokens']>> {
    const { tokens, clock } = this.#options;
    const tested = tokens.map(async (token) => {
      const startedAtMs = clock.monotonicMs();
      const outcome = await token.canary();
      return { token: token.status(), outcome, tookMs: clock.monotonicMs() - startedAtMs };
    });
    return ok({ tokens: await Promise.all(tested) });
  }

  async #probeTokens(accept: string | null): Promise<Outcome<HsmReplyValues['probe-tokens']>> {
    const { tokens } = this.#options;
    const accepted = accept === null ? null : this.#tokenNamed(accept);
    if (accepted !== null && !accepted.ok) return accepted;
    // One that is accepted is the only one that is asked: the others are not what the operator looked at.
    const probed = (accepted === null ? tokens : [accepted.value]).map(async (token) => {
      const probe = await token.probe(accepted !== null);
      const shown = probe.ok ? probe.value : { ...unprobed, reason: probe.error };
      return { token: token.status(), ...shown };
    });
    return ok({ tokens: await Promise.all(probed) });
  }

  async #prepareToken(place: number): Promise<Outcome<HsmReplyValues['prepare-token']>> {
    const { tokens } = this.#options;
    const token = tokens[place];
    if (token === undefined) {
      return fault({ code: 'no-such-token', message: `there is no token number ${place + 1}` });
    }
    // An operator, or a script, says it right after the start.
    await token.firstAttempt;
    const state = this.#options.state();
    if (state === null) return fault({ code: 'failed', message: 'key state has not arrived yet; try again' });
    const prepared = await new TokenPreparation(this.#options, token, state).run();
    if (prepared.ok || tokens.length === 1) return prepared;
    const { code, message } = prepared.error;
    return fault({ code, message: `${tokenName(token)}: ${message}` });
  }

  async #generateKey(
    label: string,
    singleToken: string | null,
  ): Promise<Outcome<HsmReplyValues['generate-key']>> {
    const { random, clock } = this.#options;
    const token = this.#tokenForNewKey(singleToken);
    if (!token.ok) return token;
    const made = await new KeyObjects(token.value, random, clock).make(label);
    if (!made.ok) return made;
    const { object, witness } = made.value;
    return ok({ object, witness: witnessJson(witness) });
  }

  /** A key that is made on one token is not on the others, which could then not stand in for it. */
  #tokenForNewKey(singleToken: string | null): Outcome<AdministeredToken> {
    const { tokens } = this.#options;
    const [only] = tokens;
    if (singleToken === null && tokens.length === 1 && only !== undefined) return ok(only);
    const names = tokens.map(tokenName).join(', ');
    if (singleToken === null) {
      return fault({
        code: 'failed',
        message: `this node has ${tokens.length} tokens (${names}), and a key made on one of them is not on the others: make it with the HSM's own tools, copy it to every token, and run \`xksctl key add\`; or say --single-token TOKEN for a key that only one of them shall ever serve`,
      });
    }
    return this.#tokenNamed(singleToken);
  }

  /** By its serial or label. */
  #tokenNamed(name: string): Outcome<AdministeredToken> {
    const { tokens } = this.#options;
    const named = tokens.filter((token) => {
      const { serial, label } = token.status();
      return serial === name || label === name;
    });
    const [first] = named;
    return first !== undefined && named.length === 1
      ? ok(first)
      : fault({
          code: 'failed',
          message: `${named.length === 0 ? 'no token' : 'more than one token'} has the serial or label "${name}"; there are ${tokens.map(tokenName).join(', ')}`,
        });
  }

  async #mintCredential(keyStore: string): Promise<Outcome<HsmReplyValues['mint-credential']>> {
    const { secrets, random } = this.#options;
    const accessKeyId = mintAccessKeyId(random);
    const secretAccessKey = mintSecretAccessKey(random);
    const bytes = Buffer.from(secretAccessKey, 'latin1');
    const sealed = secrets.seal({ keyStore, accessKeyId }, bytes);
    wipe(bytes);
    return sealed === null
      ? fault(noSecret(this.#options.state()))
      : ok({ accessKeyId, secretAccessKey, sealed: sealedJson(sealed) });
  }

  /** That no token is there after the login is a failure. With some that are the replica looks at each. */
  async #retryLogin(forgive: boolean): Promise<Outcome<HsmReplyValues['retry-login']>> {
    const tokens = await Promise.all(this.#options.tokens.map((token) => token.retryLogin(forgive)));
    const away = tokens.filter(({ state }) => state === 'UNAVAILABLE');
    if (away.length < tokens.length) return ok({ tokens });
    const reasons = away.map(({ label, uri, reason }) => {
      const why = reason ?? 'the token is not available';
      return tokens.length === 1 ? why : `${label ?? uri}: ${why}`;
    });
    return fault({ code: 'token-unavailable', message: reasons.join('; ') });
  }
}

const unprobed = { stated: '', pinned: null, found: null, verdict: 'unknown', cases: [] } as const;

const sealedJson = ({
  nonce,
  ciphertext,
  tag,
}: SealedBytes): HsmReplyValues['mint-credential']['sealed'] => ({
  nonce: encodeHex(nonce),
  ciphertext: encodeHex(ciphertext),
  tag: encodeHex(tag),
});
