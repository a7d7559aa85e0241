import { createHash } from 'node:crypto';
import { encodeHex } from '../base/bytes.js';
import { err, ok, type Result } from '../base/result.js';
import { requestIdRandomBytes } from '../keystate/request-id.js';
import type { PreparedToken, SealedBytes } from '../keystate/types.js';
import { hsmsMax } from '../ops/config-schema.js';
import type { HsmReplyValues, ObjectDescription } from '../ops/state-link.js';
import type { AdminContext, NounHandlers } from './admin-context.js';
import type { AdminResponse } from './admin-contract.js';
import type { AdminError } from './admin-error.js';
import type { AdminCaller } from './change-proposer.js';
import { sealedWitness } from './hsm-bytes.js';

type PrepareReply = HsmReplyValues['prepare-token'];

const noServingProcess: AdminError = {
  code: 'no-serving-process',
  message: 'No serving process is connected; see `xksctl status`.',
};

type PreparedAnswer = AdminResponse<'hsm.prepare'>['tokens'][number];

/** What kept serving processes from an answer: those of which the same is said share a sentence. */
function faultTexts(faults: readonly (readonly [process: string, why: string])[]): string[] {
  const processesOf = new Map<string, string[]>();
  for (const [process, why] of faults) processesOf.set(why, [...(processesOf.get(why) ?? []), process]);
  return [...processesOf].map(([why, processes]) => `${processes.join(', ')}: ${why}`);
}

const endedMeanwhile = 'ended meanwhile';

/** A request id of its own for each token but the first, the same each time: one id stands for one change. */
function forToken(caller: AdminCaller, place: number): AdminCaller {
  if (place === 0) return caller;
  const [time = ''] = caller.requestId.split('-');
  const digest = createHash('sha256').update(`token ${place} of ${caller.requestId}`).digest();
  return { ...caller, requestId: `${time}-${encodeHex(digest.subarray(0, requestIdRandomBytes))}` };
}

export function hsmHandlers(context: AdminContext): NounHandlers<'hsm'> {
  const { proposer, hsm, publication } = context;
  /** Two preparations at once could mint two cluster secrets. */
  let preparing = false;

  /** One token after the other: the first brings the cluster secret into being, the others get it wrapped. */
  async function prepareAll(caller: AdminCaller): Promise<Result<AdminResponse<'hsm.prepare'>, AdminError>> {
    const tokens: PreparedAnswer[] = [];
    const faults: AdminError[] = [];
    // Bounded: a process that cannot say at once which token is the last must not be asked for ever.
    for (let place = 0; place < hsmsMax; place++) {
      const asked = await hsm.ask<'prepare-token'>({ op: 'prepare-token', place });
      if (!asked.ok && asked.error.code === 'no-such-token') break;
      const done = asked.ok ? await commit(asked.value, forToken(caller, place)) : asked;
      if (done.ok) tokens.push(done.value);
      else faults.push(done.error);
      if (!done.ok && done.error.code === 'no-serving-process') break;
    }
    const [fault] = faults;
    if (tokens.length === 0 && fault !== undefined) return err(fault);
    return ok({ tokens, failed: faults.map(({ message }) => message) });
  }

  async function commit(
    reply: PrepareReply,
    caller: AdminCaller,
  ): Promise<Result<PreparedAnswer, AdminError>> {
    const answer = {
      token: reply.token,
      serial: reply.serial,
      label: reply.label,
      testKeyObjectId: reply.testKey.objectId,
      wrappingKeyObjectId: reply.wrappingKey.objectId,
      created: [...reply.created],
    };
    const known = context.state.preparedToken(reply.serial);
    if (known !== null && isSame(known, reply)) return ok({ ...answer, change: null });
    const wrapped = wrappedSecretOf(reply, known);
    if (wrapped === null) {
      return err({
        code: 'failed',
        message:
          `The token ${reply.serial} has another wrapping key than key state says, and the serving process gave no ` +
          'new wrap of the cluster secret. Nothing was changed.',
      });
    }
    const token: PreparedToken = {
      serial: reply.serial,
      label: reply.label,
      testKey: { objectId: reply.testKey.objectId, witness: sealedWitness(reply.testKey.witness) },
      wrappingKey: {
        objectId: reply.wrappingKey.objectId,
        witness: sealedWitness(reply.wrappingKey.witness),
      },
      ...wrapped,
    };
    const report = await proposer.propose({ type: 'token.prepare', token }, caller);
    if (report.ok) return ok({ ...answer, change: report.value });
    const left = reply.created.length === 0 ? '' : `; left on the token: ${reply.created.join(', ')}`;
    return err({ code: report.error.code, message: `${report.error.message}${left}` });
  }

  return {
    'hsm.prepare': async (_, caller) => {
      if (preparing)
        return err({ code: 'conflict', message: 'A token is being prepared already; try again.' });
      preparing = true;
      try {
        return await prepareAll(caller);
      } finally {
        preparing = false;
      }
    },

    'hsm.list': async () => {
      const listed = await hsm.ask<'list-objects'>({ op: 'list-objects' });
      if (!listed.ok) return listed;
      const described = (object: ObjectDescription) => ({
        ...object,
        usage: [...object.usage],
        usedBy: context.state.objectUser(object.objectId),
      });
      const tokens = listed.value.tokens.map(({ token, objects, unlisted }) => ({
        token,
        objects: objects?.map(described) ?? null,
        unlisted,
      }));
      return ok({ tokens });
    },

    'hsm.test': async () => {
      const links = publication.links();
      if (links.length === 0) return err(noServingProcess);
      const tests: AdminResponse<'hsm.test'>['tests'] = [];
      const faults: [process: string, why: string][] = [];
      const replies = links.map(async (link) => ({
        process: `serving-${link.hello.slot}`,
        reply: await hsm.askOf<'test-tokens'>(link, { op: 'test-tokens' }),
      }));
      for (const { process, reply } of await Promise.all(replies)) {
        if (reply === 'link-lost') faults.push([process, endedMeanwhile]);
        else if (!reply.ok) faults.push([process, reply.error.message]);
        else tests.push(...reply.value.tokens.map((test) => ({ process, ...test })));
      }
      return ok({ tests, failed: faultTexts(faults) });
    },

    // One process after the other: the first pins what the others then find pinned.
    'hsm.probe': async ({ accept }) => {
      const links = publication.links();
      if (links.length === 0) return err(noServingProcess);
      const probes: AdminResponse<'hsm.probe'>['probes'] = [];
      const faults: [process: string, why: string][] = [];
      for (const link of links) {
        const process = `serving-${link.hello.slot}`;
        const reply = await hsm.askOf<'probe-tokens'>(link, { op: 'probe-tokens', accept });
        if (reply === 'link-lost') faults.push([process, endedMeanwhile]);
        else if (!reply.ok) faults.push([process, reply.error.message]);
        else
          probes.push(...reply.value.tokens.map((probe) => ({ process, ...probe, cases: [...probe.cases] })));
      }
      const failed = faultTexts(faults);
      return probes.length === 0 && failed.length > 0
        ? err({ code: 'failed', message: failed.join('; ') })
        : ok({ probes, failed });
    },

    // One process after the other, and no further once one has failed: each attempt counts on the HSM. Only the first
    // forgets what was refused: the others would try again what it has just been refused.
    'hsm.login': async () => {
      const links = publication.links();
      if (links.length === 0) return err(noServingProcess);
      const processes: AdminResponse<'hsm.login'>['processes'] = [];
      for (const [place, link] of links.entries()) {
        const process = `serving-${link.hello.slot}`;
        const reply = await hsm.askOf<'retry-login'>(link, { op: 'retry-login', forgive: place === 0 });
        if (reply === 'link-lost') {
          return err({
            code: 'outcome-unknown',
            message: `${process} ended while it logged in; the log of xksd says why. See \`xksctl status\` before you repeat it.`,
          });
        }
        if (!reply.ok) {
          return err({ code: reply.error.code, message: `${process}: ${reply.error.message}` });
        }
        processes.push(...reply.value.tokens.map((token) => ({ process, token })));
        if (reply.value.tokens.some(({ state }) => state === 'UNAVAILABLE')) {
          const notAsked = links.slice(place + 1).map(({ hello }) => `serving-${hello.slot}`);
          return ok({ processes, notAsked });
        }
      }
      return ok({ processes, notAsked: [] });
    },
  };
}

const isSame = (known: PreparedToken, reply: PrepareReply): boolean =>
  known.testKey.objectId === reply.testKey.objectId &&
  known.wrappingKey.objectId === reply.wrappingKey.objectId &&
  reply.wrappedSecret === null;

/** A new wrap, or the known one as long as its wrapping key is still the token's. */
function wrappedSecretOf(
  reply: PrepareReply,
  known: PreparedToken | null,
): { readonly wrappedSecret: SealedBytes; readonly secretCheckValue: string } | null {
  if (reply.wrappedSecret !== null) {
    return {
      wrappedSecret: sealedWitness(reply.wrappedSecret),
      secretCheckValue: reply.wrappedSecret.checkValue,
    };
  }
  if (known === null || known.wrappingKey.objectId !== reply.wrappingKey.objectId) return null;
  return { wrappedSecret: known.wrappedSecret, secretCheckValue: known.secretCheckValue };
}
