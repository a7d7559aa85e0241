import { z } from 'zod';

import { limits } from '../keystate/types.js';
import { isNodeName, nodeNameForm } from '../ops/node-name.js';

export { ivLevels } from '../keystate/iv-budget.js';
export { mintRequestId, parseRequestId, requestIdRandomBytes } from '../keystate/request-id.js';

/**
 * The administrative interface: `POST /v1/<command>` with a JSON object, answered with the JSON object named here or
 * with `{"error": {"code", "message"}}`. The replica and `xksctl` share this file; nothing else defines it.
 */

export const adminApiVersion = 'v1';
/** Header with the id of what is asked (`mintRequestId`): a repetition under the same id is carried out once. */
export const requestIdHeader = 'xksd-request-id';
export const adminRequestBytesMax = 64 * 1024;
/** A page of keys, and a token's objects, fit well below. */
export const adminResponseBytesMax = 16 * 1024 * 1024;
/** Of `keystore.set`: for how long an isolated node may serve on under `stop`. */
export const isolationBoundMs = {
  min: limits.isolationBoundMsMin,
  default: limits.isolationBoundMsDefault,
  max: limits.isolationBoundMsMax,
} as const;
/** Of `cluster.add`: how long the join token may be good. */
export const inviteSeconds = { min: 60, max: 604_800 } as const;
/** Keys in one answer of `key.list`. */
export const keysPerPageMax = 1_000;

const name = z.string().min(1).max(128);
const accessKeyId = z.string().min(1).max(64);
const timestampMs = z.number();
const status = z.enum(['ENABLED', 'DISABLED']);

/** The log index of the last change that the operator saw; without it, the state as of now is taken for seen. */
const revision = z.int().nonnegative().optional();

const nullableNumber = z.number().nullable();

/** Of a command that answers from key state: `true` takes what this node knows, confirmed by no quorum. */
const stale = z.boolean().optional();

/** What stands behind an answer from key state. */
const reading = z.object({
  /** By a quorum, after the question: this node lacked nothing that was acknowledged anywhere before it. */
  confirmed: z.boolean(),
  /** Of the log: what this node had applied at least when it answered. */
  index: z.number(),
  /** Since a quorum last confirmed this node's state: 0 when confirmed; `null` for not since its replica started. */
  ageMs: nullableNumber,
});
export type AdminReading = z.infer<typeof reading>;

const tokenStatus = z.object({
  uri: z.string(),
  label: z.string().nullable(),
  serial: z.string().nullable(),
  manufacturer: z.string().nullable(),
  model: z.string().nullable(),
  firmware: z.string().nullable(),
  state: z.enum(['ACTIVE', 'DEGRADED', 'UNAVAILABLE']),
  reason: z.string().nullable(),
  sessions: z.number(),
  stuckCells: z.number(),
});

/** A serving process that has not applied a change, or is not known to have. */
const unconfirmedProcess = z.object({
  /** `serving-1`; `null` for one that the supervisor knows and the replica does not. */
  process: z.string().nullable(),
  pid: z.int().nullable(),
  appliedIndex: z.number().nullable(),
  connected: z.boolean(),
});

/** What became of a change: durable at `index`, and whether every serving process of this node acts on it. */
const change = z.object({
  index: z.number(),
  /** It was made before, under the same request id; nothing was done now. */
  repeated: z.boolean(),
  applied: z.boolean(),
  unconfirmed: z.array(unconfirmedProcess),
});

/** What a node that no quorum confirms does with a key store: serve on, or stop once it is older than `boundMs`. */
const onIsolation = z.discriminatedUnion('rule', [
  z.strictObject({ rule: z.literal('serve') }),
  z.strictObject({ rule: z.literal('stop'), boundMs: z.int().positive() }),
]);

const keyStore = z.object({
  name: z.string(),
  uriPathPrefix: z.string(),
  /** XksProxyUriPath (X-U2). */
  uriPath: z.string(),
  regions: z.array(z.string()),
  adopted: z.boolean(),
  status,
  onIsolation,
  createdAtMs: timestampMs,
  revision: z.number(),
  credentials: z.int(),
  keys: z.int(),
});

/** Never its secret. */
const credential = z.object({
  accessKeyId: z.string(),
  keyStore: z.string(),
  createdAtMs: timestampMs,
  /** `null`: not since `watchedSinceMs`. */
  lastUsedMs: timestampMs.nullable(),
  /** From when on this replica would know of a use. */
  watchedSinceMs: timestampMs,
  revision: z.number(),
});

/** Random IVs of a key version (NIST SP 800-38D §8.3). */
const ivBudget = z.object({
  /** Counted: encryptions that were made, and blocks that processes hold or held when they ended. */
  reserved: z.number(),
  /** Made on this node and not counted yet. */
  unreserved: z.number(),
  max: z.number(),
  rule: z.enum(['refuse', 'continue']),
});

const keyVersion = z.object({
  version: z.int(),
  objectId: z.string(),
  checkValue: z.string().nullable(),
  verified: z.boolean(),
  status,
  ivBudget,
});

const key = z.object({
  externalKeyId: z.string(),
  keyStore: z.string(),
  status,
  usage: z.array(z.string()),
  description: z.string(),
  currentVersion: z.int(),
  versions: z.array(keyVersion),
  createdAtMs: timestampMs,
  revision: z.number(),
});

const hsmObject = z.object({
  objectId: z.string(),
  label: z.string(),
  keyType: z.string(),
  keyBits: z.number().nullable(),
  usage: z.array(z.string()),
  sensitive: z.boolean().nullable(),
  extractable: z.boolean().nullable(),
  checkValue: z.string().nullable(),
  /** Who uses it, as a key or as a test or wrapping key. */
  usedBy: z.string().nullable(),
});

const servingProcess = z.object({
  process: z.string(),
  pid: z.int(),
  version: z.string(),
  startedAtMs: timestampMs,
  /** `null`: not known, the process has not reported to this replica yet. */
  ready: z.boolean().nullable(),
  /** What is missing when not ready. */
  reason: z.string(),
  appliedIndex: z.number(),
  tokens: z.array(tokenStatus),
});

const nodeStatus = z.object({
  node: z.string(),
  clusterId: z.string().nullable(),
  version: z.string(),
  replica: z.object({ pid: z.int(), startedAtMs: timestampMs, appliedIndex: z.number() }),
  /** As the supervisor counts them. */
  servingProcesses: z.object({ configured: z.int(), ready: z.int() }),
  serving: z.array(servingProcess),
  /** Each token once, in the worst state that a serving process reports. */
  tokens: z.array(tokenStatus),
  preparedTokens: z.array(z.object({ serial: z.string(), label: z.string() })),
  counts: z.object({ keyStores: z.int(), credentials: z.int(), keys: z.int() }),
  /** What an operator should look at; empty when all is well. */
  degraded: z.array(z.string()),
});

const keyStoreAnswer = z.object({ keyStore, change });
const keyAnswer = z.object({ key, change, warnings: z.array(z.string()) });
const keyName = { keyStore: name, externalKeyId: name };
const newKey = {
  keyStore: name,
  externalKeyId: name.optional(),
  description: z.string().max(1_024).optional(),
};
const nothing = z.strictObject({});

const clusterMember = z.object({
  name: z.string(),
  memberId: z.string(),
  /** Where the others reach it: host:port. */
  address: z.string(),
  status: z.enum(['invited', 'learner', 'voter']),
  isLeader: z.boolean(),
  isSelf: z.boolean(),
  /** As the leader knows it; `null` on other nodes, and of who is invited. */
  matchIndex: nullableNumber,
  /** From its last report; `null` when it was never heard of since this replica started. */
  version: z.string().nullable(),
  appliedIndex: nullableNumber,
  servingAppliedIndex: nullableNumber,
  readyServingProcesses: nullableNumber,
  heardMsAgo: nullableNumber,
  clockOffsetMs: nullableNumber,
  /** What an operator should look at. */
  findings: z.array(z.string()),
});

const clusterStatus = z.object({
  node: z.string(),
  clusterId: z.string(),
  memberId: z.string(),
  role: z.enum(['follower', 'preCandidate', 'candidate', 'leader']),
  /** Name of the leader; `null` when none is known here. */
  leader: z.string().nullable(),
  term: z.number(),
  commitIndex: z.number(),
  appliedIndex: z.number(),
  snapshotIndex: z.number(),
  /** Of the state as of `appliedIndex`. */
  stateHash: z.string(),
  activeFormat: z.int(),
  /** Since a quorum last confirmed that this node knew everything; `null` when none has since its start. */
  freshnessAgeMs: nullableNumber,
  /** Why replication has stopped here for good; `null` while it runs. */
  halted: z.string().nullable(),
  members: z.array(clusterMember),
  formerMembers: z.array(
    z.object({
      name: z.string(),
      memberId: z.string(),
      removedAtMs: timestampMs,
      reason: z.string(),
      destroyed: z.boolean(),
    }),
  ),
  degraded: z.array(z.string()),
});

const memberAnswer = z.object({ member: clusterMember, change });

/** What a recovery took back until somebody decides. */
const pendingGrant = z.object({
  /** Of the command in the log: how it is named. */
  index: z.number(),
  /** Its type, such as `key.enable`. */
  command: z.string(),
  keyStore: z.string(),
  /** External key id or access key id; `null` when it is about the key store itself. */
  name: z.string().nullable(),
  revision: z.number(),
});
/** Of the cluster, the same on every node; `cluster-settings.ts` says what each may be. */
const clusterSettings = z.object({
  tickMs: z.int(),
  heartbeatTicks: z.int(),
  electionTicks: z.int(),
  freshnessIntervalMs: z.int(),
  serveStaleMaxMs: z.int(),
});
/** In the order in which they are shown. */
export const settingNames = clusterSettings.keyof().options;
const pendingIndex = z.strictObject({ index: z.int().positive() });
const pendingAnswer = z.object({
  index: z.number(),
  /** `null`: it was decided before, under the same request id. */
  grant: pendingGrant.nullable(),
  change,
});

/** Every command: what it takes and what it answers. */
export const adminCommands = {
  status: { request: nothing, response: nodeStatus },

  'keystore.create': {
    request: z.strictObject({
      name,
      /** Default: the name. Slashes at its ends don't count; empty for `/kms/xks/v1`. */
      uriPathPrefix: z.string().max(128).optional(),
      regions: z.array(z.string().max(64)).min(1).max(64),
      adopted: z.boolean().optional(),
    }),
    response: keyStoreAnswer,
  },
  'keystore.list': {
    request: z.strictObject({ stale }),
    response: z.object({ keyStores: z.array(keyStore), reading }),
  },
  'keystore.show': {
    request: z.strictObject({ name, stale }),
    response: z.object({ keyStore, credentials: z.array(credential), reading }),
  },
  'keystore.enable': { request: z.strictObject({ name, revision }), response: keyStoreAnswer },
  'keystore.disable': { request: z.strictObject({ name }), response: keyStoreAnswer },
  'keystore.set': {
    request: z.strictObject({ name, onIsolation, revision }),
    response: keyStoreAnswer,
  },

  'credential.create': {
    request: z.strictObject({ keyStore: name }),
    response: z.object({
      credential,
      /** Shown here and never again. */
      secretAccessKey: z.string(),
      uriPath: z.string(),
      change,
    }),
  },
  'credential.list': {
    request: z.strictObject({ keyStore: name.optional(), stale }),
    response: z.object({ credentials: z.array(credential), reading }),
  },
  'credential.retire': {
    request: z.strictObject({ accessKeyId, force: z.boolean().optional() }),
    response: z.object({ credential, change }),
  },

  'key.generate': {
    /** `singleToken`: serial or label of the only token that shall hold the key; needed where a node has several. */
    request: z.strictObject({ ...newKey, singleToken: z.string().min(1).max(256).optional() }),
    response: keyAnswer,
  },
  'key.add': {
    request: z
      .strictObject({
        ...newKey,
        /** CKA_ID, hexadecimal. */
        objectId: z
          .string()
          .regex(/^([0-9a-fA-F]{2}){1,255}$/, 'an object id is hexadecimal, two digits a byte')
          .optional(),
        objectLabel: z.string().min(1).max(1_024).optional(),
      })
      .refine(({ objectId, objectLabel }) => (objectId === undefined) !== (objectLabel === undefined), {
        message: 'exactly one of objectId and objectLabel names the object',
      }),
    response: keyAnswer,
  },
  'key.list': {
    request: z.strictObject({
      keyStore: name,
      /** Goes on after this external key id. */
      after: name.optional(),
      stale,
    }),
    response: z.object({
      keys: z.array(key).max(keysPerPageMax),
      /** `after` for the next page; `null` when this was the last. */
      next: z.string().nullable(),
      reading,
    }),
  },
  'key.show': {
    /** `tokens`: ask each token of this node for it. */
    request: z.strictObject({ ...keyName, tokens: z.boolean().optional(), stale }),
    response: z.object({
      key,
      /** By version and token; `null` when not asked for. */
      tokens: z
        .array(
          z.object({
            version: z.int(),
            token: z.string(),
            /** `another`: an object with its CKA_ID that is not this key. */
            holds: z.enum(['yes', 'no', 'another', 'unknown']),
            /** Of `unknown`. */
            reason: z.string().nullable(),
          }),
        )
        .nullable(),
      reading,
    }),
  },
  'key.enable': { request: z.strictObject({ ...keyName, revision }), response: keyAnswer },
  'key.disable': { request: z.strictObject(keyName), response: keyAnswer },
  /** Whether it encrypts on when its current version has used up its random IVs. */
  'key.set': {
    request: z.strictObject({ ...keyName, ivBudget: z.enum(['refuse', 'continue']) }),
    response: keyAnswer,
  },

  'cluster.status': { request: nothing, response: clusterStatus },
  'cluster.add': {
    request: z.strictObject({
      name: z.string().refine(isNodeName, { error: `must be ${nodeNameForm}` }),
      address: z.string().min(3).max(256),
      expiresSeconds: z.int().min(inviteSeconds.min).max(inviteSeconds.max).optional(),
    }),
    response: memberAnswer.extend({
      /** Shown here and never again. */
      joinToken: z.string(),
      expiresAtMs: timestampMs,
    }),
  },
  'cluster.promote': {
    request: z.strictObject({ name, force: z.boolean().optional() }),
    response: memberAnswer,
  },
  'cluster.remove': {
    request: z.strictObject({ name, force: z.boolean().optional() }),
    response: z.object({
      name: z.string(),
      memberId: z.string(),
      /** What it was; `removed`: it was gone already, by the first of requests with one id. */
      status: z.enum(['invited', 'learner', 'voter', 'removed']),
      change,
      /** Voters not known to have applied it: until they have, they may still need the one that was removed. */
      unapplied: z.array(z.string()),
    }),
  },
  /** Of a former member: its disk was destroyed, so no kill-switch report need mention it. */
  'cluster.forget': {
    request: z.strictObject({ name, destroyed: z.literal(true) }),
    response: z.object({ name: z.string(), memberId: z.string(), change }),
  },
  'cluster.transfer': {
    request: z.strictObject({ to: name }),
    response: z.object({ leader: z.string(), term: z.number() }),
  },
  'cluster.upgrade': {
    request: z.strictObject({ finalize: z.literal(true) }),
    response: z.object({
      activeFormat: z.int(),
      change: change.nullable(),
      /** Who joined while it was done and is not known to run this release, each in a few words for the operator. */
      joinedMeanwhile: z.array(z.string()),
    }),
  },

  'settings.show': {
    request: z.strictObject({ stale }),
    response: z.object({ settings: clusterSettings, defaults: clusterSettings, reading }),
  },
  /** Those not named stay as they are. */
  'settings.set': {
    request: z.strictObject({ settings: z.strictObject(clusterSettings.partial().shape) }),
    response: z.object({ settings: clusterSettings, change }),
  },

  'pending.list': {
    request: z.strictObject({ stale }),
    response: z.object({ pending: z.array(pendingGrant), reading }),
  },
  'pending.confirm': { request: pendingIndex, response: pendingAnswer },
  'pending.drop': { request: pendingIndex, response: pendingAnswer },

  'hsm.prepare': {
    request: nothing,
    response: z.object({
      tokens: z.array(
        z.object({
          token: tokenStatus,
          serial: z.string(),
          label: z.string(),
          testKeyObjectId: z.string(),
          wrappingKeyObjectId: z.string(),
          /** Objects made on the token by this command, for people. */
          created: z.array(z.string()),
          /** `null`: the token was prepared already. */
          change: change.nullable(),
        }),
      ),
      /** Tokens that could not be prepared, and why. Where that is all of them, the command fails. */
      failed: z.array(z.string()),
    }),
  },
  'hsm.list': {
    request: z.strictObject({ stale }),
    response: z.object({
      /** Of `usedBy`; the tokens are looked at now. */
      reading,
      tokens: z.array(
        z.object({
          token: tokenStatus,
          /** `null` when they could not be looked at; then `unlisted` says why. */
          objects: z.array(hsmObject).nullable(),
          unlisted: z.string().nullable(),
        }),
      ),
    }),
  },
  'hsm.test': {
    request: nothing,
    response: z.object({
      /** Each token from each serving process. */
      tests: z.array(
        z.object({
          process: z.string(),
          token: tokenStatus,
          outcome: z.enum(['passed', 'failed', 'no-test-key']),
          /** An encrypt and a decrypt, waiting for a session included. */
          tookMs: z.number(),
        }),
      ),
      /** Processes that gave no answer, and why. */
      failed: z.array(z.string()),
    }),
  },
  'hsm.probe': {
    request: z.strictObject({
      /** Serial or label: its profile is pinned as it is found, and it is used again. */
      accept: z.string().min(1).max(256).nullable(),
    }),
    response: z.object({
      /** Each token, or the one to be accepted, from each serving process. */
      probes: z.array(
        z.object({
          process: z.string(),
          token: tokenStatus,
          stated: z.string(),
          pinned: z.string().nullable(),
          found: z.string().nullable(),
          verdict: z.enum(['agrees', 'accepted', 'differs', 'refused', 'unknown']),
          reason: z.string().nullable(),
          cases: z.array(z.object({ what: z.string(), answer: z.string() })),
        }),
      ),
      /** Processes that gave no answer, and why. */
      failed: z.array(z.string()),
    }),
  },
  'hsm.login': {
    request: nothing,
    response: z.object({
      processes: z.array(z.object({ process: z.string(), token: tokenStatus })),
      /** Those after the first whose login failed on some token: each attempt counts on the HSM. */
      notAsked: z.array(z.string()),
    }),
  },
} as const;

export type AdminCommand = keyof typeof adminCommands;
export type AdminRequest<C extends AdminCommand> = z.infer<(typeof adminCommands)[C]['request']>;
export type AdminResponse<C extends AdminCommand> = z.infer<(typeof adminCommands)[C]['response']>;

/** Whether it answers from key state, which a quorum is to confirm first. */
export const readsKeyState = (command: AdminCommand): boolean =>
  'reading' in adminCommands[command].response.shape;

export const isAdminCommand = (text: string): text is AdminCommand => Object.hasOwn(adminCommands, text);

export const adminErrorSchema = z.object({ error: z.object({ code: z.string(), message: z.string() }) });
