import { wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { unreachable } from '../base/guards.js';
import type { LineLogger } from '../base/logger.js';
import { err, ok, type Result } from '../base/result.js';
import type { Timers } from '../base/timers.js';
import type { HsmCrypto } from '../hsm/types.js';
import type { KeyStateQueries } from '../keystate/types.js';
import type { ServingMetrics } from '../ops/metrics.js';
import type { TokenStatus } from '../ops/state-link.js';
import type { SignatureCheck } from '../sigv4/signature-check.js';
import type { SigningKeyCache } from '../sigv4/signing-key.js';
import { verifyRequest } from '../sigv4/verify.js';
import {
  authenticationFailed,
  errorBody,
  errorType,
  unsupportedMethod,
  type XksError,
  xksError,
} from '../xks/errors.js';
import type { RequestMetadata } from '../xks/request-metadata.js';
import {
  type DecryptRequest,
  type EncryptRequest,
  parseDecryptRequest,
  parseEncryptRequest,
  parseGetHealthStatusRequest,
  parseGetKeyMetadataRequest,
} from '../xks/requests.js';
import { type Route, routeTarget } from '../xks/uri-path.js';
import { Admission, mayNotServe, noSuchPath, type Opened } from './admission.js';
import type { CredentialUse } from './credential-use.js';
import { DeadlineGuard } from './deadline-guard.js';
import type { HttpAnswer, HttpHandler, HttpRequest } from './http/exchange.js';
import type { IvAccounts } from './iv-accounts.js';
import { checkKeyStore } from './key-lookup.js';
import { KeyUse, type KeyUseParts } from './key-use.js';
import { newTrace, type RequestTrace, requestLineFields } from './request-trace.js';
import type { SecretStore } from './secret-store.js';
import type { StateFreshness } from './state-freshness.js';
import { decrypt } from './use-cases/decrypt.js';
import { encrypt } from './use-cases/encrypt.js';
import { getHealthStatus, type ProxyIdentity } from './use-cases/get-health-status.js';
import { getKeyMetadata } from './use-cases/get-key-metadata.js';

/** The service in the scope of every signature (X-A1). */
const sigV4Service = 'kms-xks-proxy';

/** Requests that wait for an HSM. At 1,800 a second, 150 ms each, some 270 do. */
const cryptographicRequestsInFlightMax = 2_048;

export interface PipelineDependencies {
  /** Key state as of now, `null` before any was applied. */
  readonly state: () => KeyStateQueries | null;
  readonly freshness: StateFreshness;
  readonly secrets: Pick<SecretStore, 'available' | 'secretOf'>;
  readonly signingKeys: SigningKeyCache;
  readonly checkSignature: SignatureCheck;
  readonly credentialUse: Pick<CredentialUse, 'used'>;
  readonly crypto: HsmCrypto;
  /** Of the random IVs that `crypto` uses up. */
  readonly ivs: Pick<IvAccounts, 'mayEncrypt'>;
  /** Which HSM that is, for the log; `null` before it was seen, and where `crypto` tells with each operation. */
  readonly hsmName: () => string | null;
  /** What the background checks say of the tokens (X-H3). */
  readonly tokens: () => readonly TokenStatus[];
  readonly proxy: () => ProxyIdentity;
  readonly metrics: Pick<ServingMetrics, 'observeRequest' | 'authFailure'>;
  readonly logger: LineLogger;
  readonly clock: Clock;
  readonly timers: Timers;
  /** From the last byte of the body. */
  readonly requestDeadlineMs: number;
  readonly inFlightMax?: number;
}

type Outcome = Result<Uint8Array, XksError>;

/** A request whose path names a key store and whose signature is its. */
interface AuthenticRequest {
  readonly opened: Opened;
  readonly accessKeyId: string;
}

/**
 * The way of a request, in the order that architecture.md gives: route, authenticate, parse, admit, look up key state,
 * ask the HSM, look at key state again, answer, log and count. Each step's error comes before those of the steps after
 * it. Never rejects: a bug of ours answers 500 and is logged (X-X1).
 */
export function createPipeline(dependencies: PipelineDependencies): HttpHandler {
  const pipeline = new Pipeline(dependencies);
  return (request) => pipeline.answer(request);
}

class Pipeline {
  readonly #deps: PipelineDependencies;
  readonly #admission: Admission;
  readonly #keyUseParts: KeyUseParts;
  readonly #inFlightMax: number;
  #inFlight = 0;

  constructor(dependencies: PipelineDependencies) {
    const { crypto, ivs, hsmName, clock, timers } = dependencies;
    this.#deps = dependencies;
    this.#admission = new Admission(dependencies.state, dependencies.freshness);
    const guard = new DeadlineGuard(clock, timers);
    this.#keyUseParts = { admission: this.#admission, guard, crypto, ivs, hsmName, clock };
    this.#inFlightMax = dependencies.inFlightMax ?? cryptographicRequestsInFlightMax;
  }

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    const trace = newTrace();
    let outcome: Outcome;
    try {
      const served = this.#serve(request, trace);
      outcome = served instanceof Promise ? await served : served;
    } catch (thrown) {
      this.#deps.logger.error('a bug ended a request', { operation: trace.operation, error: thrown });
      outcome = err(xksError('InternalException', 'The proxy failed; its log says how.'));
    } finally {
      // Also what was refused may hold a plaintext.
      wipe(request.body);
    }
    this.#report(request, trace, outcome);
    return answerOf(outcome, trace);
  }

  /** A promise only where the HSM is asked. */
  #serve(request: HttpRequest, trace: RequestTrace): Outcome | Promise<Outcome> {
    const route = routeTarget(request.target);
    if (route === null) return err(noSuchPath);
    trace.operation = route.operation;
    if (request.method !== 'POST') return err(unsupportedMethod()); // X-T4: before authentication
    if ('externalKeyId' in route) trace.externalKeyId = route.externalKeyId;

    const authentic = this.#authenticate(request, route, trace);
    return authentic.ok ? this.#dispatch(request, route, authentic.value, trace) : authentic;
  }

  /** X-A1 to X-A5: nothing of the body or of a key is looked at before. */
  #authenticate(request: HttpRequest, route: Route, trace: RequestTrace): Result<AuthenticRequest, XksError> {
    const { secrets, clock, freshness } = this.#deps;
    const found = this.#admission.open(route.uriPathPrefix);
    if (!found.ok) {
      if (found.error === mayNotServe) trace.note = freshness.standing.reason;
      return found;
    }
    const { state, keyStore } = found.value;
    trace.keyStore = keyStore.name;
    // We cannot tell then who is authentic: never 401 (hsm.md, Sealed secrets).
    if (!secrets.available) return err(noSecretsYet);

    let unsealable = false;
    const nowMs = clock.wallMs();
    const verified = verifyRequest(request, {
      nowMs,
      service: sigV4Service,
      regions: keyStore.regions,
      secretFor: (accessKeyId) => {
        const credential = state.credential(accessKeyId);
        // X-A3: a credential of another prefix is as good as none.
        if (credential === null || credential.keyStore !== keyStore.name) return null;
        const secret = secrets.secretOf(credential);
        unsealable = secret === null;
        return secret;
      },
      signingKeys: this.#deps.signingKeys,
      checkSignature: this.#deps.checkSignature,
    });
    if (!verified.ok) {
      if (unsealable) return err(unsealableSecret);
      trace.authFailure = verified.error;
      const { reason, accessKeyId } = verified.error;
      const unknown = reason === 'unknown-access-key' ? (accessKeyId ?? '') : null;
      return err(this.#admission.notAuthentic(found.value, unknown));
    }
    const { accessKeyId } = verified.value;
    trace.accessKeyId = accessKeyId;
    this.#deps.credentialUse.used(accessKeyId, nowMs);
    return ok({ opened: found.value, accessKeyId });
  }

  #dispatch(
    request: HttpRequest,
    route: Route,
    authentic: AuthenticRequest,
    trace: RequestTrace,
  ): Outcome | Promise<Outcome> {
    const { opened } = authentic;
    const { name } = opened.keyStore;
    const keepMetadata = (metadata: RequestMetadata): void => {
      trace.requestMetadata = metadata;
    };
    switch (route.operation) {
      case 'GetHealthStatus': {
        const parsed = parseGetHealthStatusRequest(request.body, keepMetadata);
        if (!parsed.ok) return parsed;
        // X-H3: outside quota and overload control.
        const fault = checkKeyStore(this.#admission.known(opened), name);
        return fault === null ? ok(getHealthStatus(this.#deps.proxy(), this.#deps.tokens())) : err(fault);
      }
      case 'GetKeyMetadata': {
        const parsed = parseGetKeyMetadataRequest(request.body, keepMetadata);
        if (!parsed.ok) return parsed;
        const known = this.#admission.known(opened);
        const fault =
          this.#deadlineFault(request) ??
          checkKeyStore(known, name) ??
          this.#admission.isolationFault(opened);
        return fault === null ? getKeyMetadata(known, name, route.externalKeyId) : err(fault);
      }
      case 'Encrypt': {
        const parsed = parseEncryptRequest(request.body, keepMetadata);
        wipe(request.body);
        if (!parsed.ok) return parsed;
        return this.#encrypt(parsed.value, request, authentic, route.externalKeyId, trace);
      }
      case 'Decrypt': {
        const parsed = parseDecryptRequest(request.body, keepMetadata);
        if (!parsed.ok) return parsed;
        return this.#decrypt(parsed.value, request, authentic, route.externalKeyId, trace);
      }
      default:
        return unreachable(route);
    }
  }

  async #encrypt(
    asked: EncryptRequest,
    request: HttpRequest,
    authentic: AuthenticRequest,
    externalKeyId: string,
    trace: RequestTrace,
  ): Promise<Outcome> {
    try {
      const fault = this.#admissionFault(request, authentic.opened);
      if (fault !== null) return err(fault);
      this.#inFlight += 1;
      try {
        const use = this.#keyUse(request, authentic.opened, externalKeyId, trace);
        return this.#leaving(await encrypt(asked, use), authentic, trace);
      } finally {
        this.#inFlight -= 1;
      }
    } finally {
      // Where the deadline ended it the pool may read zeroes now: nobody gets what comes of them.
      wipe(asked.plaintext);
    }
  }

  async #decrypt(
    asked: DecryptRequest,
    request: HttpRequest,
    authentic: AuthenticRequest,
    externalKeyId: string,
    trace: RequestTrace,
  ): Promise<Outcome> {
    const fault = this.#admissionFault(request, authentic.opened);
    if (fault !== null) return err(fault);
    this.#inFlight += 1;
    try {
      const use = this.#keyUse(request, authentic.opened, externalKeyId, trace);
      return this.#leaving(await decrypt(asked, use), authentic, trace);
    } finally {
      this.#inFlight -= 1;
    }
  }

  /** Whether there is room and time for a request that needs the HSM. */
  #admissionFault(request: HttpRequest, opened: Opened): XksError | null {
    const fault = this.#deadlineFault(request) ?? this.#admission.isolationFault(opened);
    if (fault !== null || this.#inFlight < this.#inFlightMax) return fault;
    return xksError('ThrottlingException', 'More requests are waiting for the HSM than this proxy takes.');
  }

  #keyUse(request: HttpRequest, opened: Opened, externalKeyId: string, trace: RequestTrace): KeyUse {
    const deadlineMs = request.receivedAtMs + this.#deps.requestDeadlineMs;
    return new KeyUse(this.#keyUseParts, opened, externalKeyId, deadlineMs, trace);
  }

  /** What was made with a key leaves only if it still may. */
  #leaving(outcome: Outcome, { opened, accessKeyId }: AuthenticRequest, trace: RequestTrace): Outcome {
    if (!outcome.ok) return outcome;
    const refused = this.#admission.leavingFault(opened, accessKeyId);
    if (refused === null) return outcome;
    wipe(outcome.value);
    if (refused === authenticationFailed) trace.note = 'the credential was retired while the HSM worked';
    return err(refused);
  }

  /** Who comes too late has waited for us, not for the HSM. */
  #deadlineFault(request: HttpRequest): XksError | null {
    const elapsedMs = this.#deps.clock.monotonicMs() - request.receivedAtMs;
    return elapsedMs < this.#deps.requestDeadlineMs
      ? null
      : xksError('ThrottlingException', 'This proxy is overloaded: the request was not looked at in time.');
  }

  #report(request: HttpRequest, trace: RequestTrace, outcome: Outcome): void {
    const { metrics, logger, clock } = this.#deps;
    const durationMs = clock.monotonicMs() - request.receivedAtMs;
    const error = outcome.ok ? null : outcome.error;
    metrics.observeRequest({
      operation: trace.operation ?? 'unknown',
      keyStore: trace.keyStore ?? '',
      exception: error?.errorName ?? '',
      errorType: error === null ? '' : errorType(error),
      durationSeconds: durationMs / 1_000,
    });
    if (trace.authFailure !== null) metrics.authFailure(trace.authFailure.reason);
    if (logger.infoEnabled) {
      logger.infoJson('request', requestLineFields(request, trace, error, error?.status ?? 200, durationMs));
    }
  }
}

function answerOf(outcome: Outcome, trace: RequestTrace): HttpAnswer {
  if (outcome.ok) {
    const body = outcome.value;
    return trace.operation === 'Decrypt'
      ? { status: 200, body, authenticated: true, secret: true }
      : { status: 200, body, authenticated: true };
  }
  const { error } = outcome;
  const { status } = error;
  const body = errorBody(error);
  if (status === 405) return { status, body, headers: { allow: 'POST' } };
  // With a credential that was retired meanwhile it is not.
  const refused = trace.accessKeyId === null || error === authenticationFailed;
  return refused ? { status, body } : { status, body, authenticated: true };
}

const noSecretsYet = xksError(
  'DependencyTimeoutException',
  'No HSM has unwrapped the secret that credentials are sealed with; requests cannot be authenticated yet.',
);

const unsealableSecret = xksError(
  'InternalException',
  'The secret of this credential is not sealed with the secret of this cluster.',
);
