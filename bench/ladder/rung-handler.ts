import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemRandom } from '../../src/base/random.js';
import { ok } from '../../src/base/result.js';
import { systemTimers } from '../../src/base/timers.js';
import { countingEncryptions } from '../../src/hsm/encryption-count.js';
import type { HsmCrypto } from '../../src/hsm/types.js';
import type { SealedBytes } from '../../src/keystate/types.js';
import { createLogger } from '../../src/ops/logging.js';
import { createServingMetrics } from '../../src/ops/metrics.js';
import type { HttpHandler, HttpRequest } from '../../src/serving/http/exchange.js';
import { IvAccounts } from '../../src/serving/iv-accounts.js';
import { createPipeline, type PipelineDependencies } from '../../src/serving/pipeline.js';
import { SecretStore } from '../../src/serving/secret-store.js';
import { FreshnessTracker } from '../../src/serving/state-freshness.js';
import { SigningKeyCache } from '../../src/sigv4/signing-key.js';
import { verifyRequest } from '../../src/sigv4/verify.js';
import { jsonEcho } from './json-echo.js';
import { ladderState } from './ladder-state.js';
import { type LadderToken, ladderAccess, type RungName } from './rungs.js';
import { logIn, openToken } from './token-pool.js';

/** Far beyond any wait of a benchmark: its answers are timed, not refused. */
const requestDeadlineMs = 10_000;
const clusterSecretBytes = 32;

const echo: HttpHandler = ({ body }) => Promise.resolve({ status: 200, body: jsonEcho(body) });

/** What a rung does with a request. */
export async function rungHandler(rung: RungName, token: LadderToken): Promise<HttpHandler> {
  if (rung === 'node' || rung === 'http') return echo;
  if (rung === 'sigv4') return verifiedEcho();
  const recorded = rung === 'records' ? records(process.stdout.fd) : unrecorded;
  if (rung === 'pipeline') return pipeline(recorded, token, copying, noWitness);
  const { crypto, witness } = await withToken(token);
  return pipeline(recorded, token, crypto, witness);
}

/** The pipeline past an HSM that does nothing; `logFd` is where its request log goes, `null` for no log and metrics. */
export function pipelineAlone(token: LadderToken, logFd: number | null): HttpHandler {
  return pipeline(logFd === null ? unrecorded : records(logFd), token, copying, noWitness);
}

function verifiedEcho(): HttpHandler {
  const signingKeys = new SigningKeyCache();
  const checkSignature = loadNativeBinding().checkSigV4Signature;
  const secret = Buffer.from(ladderAccess.secretAccessKey);
  return (request: HttpRequest) => {
    const verified = verifyRequest(request, {
      nowMs: Date.now(),
      service: 'kms-xks-proxy',
      regions: [ladderAccess.region],
      secretFor: (accessKeyId) => (accessKeyId === ladderAccess.accessKeyId ? secret : null),
      signingKeys,
      checkSignature,
    });
    if (!verified.ok) return Promise.resolve({ status: 401, body: Buffer.from('{}') });
    return echo(request);
  };
}

function pipeline(
  recorded: Records,
  token: LadderToken,
  crypto: HsmCrypto,
  witness: SealedBytes,
): HttpHandler {
  const secrets = new SecretStore(systemRandom);
  secrets.install(systemRandom.bytes(clusterSecretBytes));
  const state = ladderState(secrets, token.objectId, witness);
  const native = loadNativeBinding();
  const freshness = new FreshnessTracker(() => native.bootTimeMs());
  freshness.confirmed(native.bootTimeMs());
  freshness.standingChanged({ mayServe: true, reason: '', fleetSize: 1 });
  const ivs = new IvAccounts({ clock: systemClock });
  return createPipeline({
    state: () => state,
    freshness,
    secrets,
    signingKeys: new SigningKeyCache(),
    checkSignature: native.checkSigV4Signature,
    credentialUse: { used: () => {} },
    crypto: countingEncryptions(crypto, ivs),
    ivs,
    hsmName: () => token.label,
    tokens: () => [],
    proxy: () => ({ fleetSize: 1, version: 'bench' }),
    ...recorded,
    clock: systemClock,
    timers: systemTimers,
    requestDeadlineMs,
  });
}

async function withToken(token: LadderToken) {
  const { pool, witness } = await openToken(token, logIn(token));
  return {
    crypto: pool,
    witness: { nonce: witness.iv, ciphertext: witness.ciphertext, tag: witness.tag },
  };
}

type Records = Pick<PipelineDependencies, 'metrics' | 'logger'>;

/** As a serving process has them. */
function records(fd: number): Records {
  const logger = createLogger({ level: 'info', role: 'serving', slot: 1, fd });
  return { logger, metrics: createServingMetrics({ droppedLogLines: () => 0 }) };
}

const unrecorded: Records = {
  logger: silentLogger,
  metrics: { observeRequest: () => {}, authFailure: () => {} },
};

const noWitness = {
  nonce: new Uint8Array(12),
  ciphertext: new Uint8Array(32),
  tag: new Uint8Array(16),
};

const copied = { iv: new Uint8Array(12), tag: new Uint8Array(16), integrityValue: new Uint8Array(32) };

/** In place of the HSM: no thread, no call, no cryptography. */
const copying: HsmCrypto = {
  encrypt: async ({ plaintext, integrityPrefix }) =>
    ok({
      ...copied,
      ciphertext: plaintext.slice(),
      integrityValue: integrityPrefix === null ? null : copied.integrityValue,
    }),
  decrypt: async ({ ciphertext }) => ok(ciphertext.slice()),
};
