import { decodeHex, wipe } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { RandomSource } from '../base/random.js';
import { ok } from '../base/result.js';
import { objectId, type Witness } from '../hsm/types.js';
import { witnessAad } from '../hsm/witness.js';
import type { HsmReplyValues, KeyOnToken, ObjectDescription, WitnessJson } from '../ops/state-link.js';
import {
  type AdministeredToken,
  canEncryptAndDecrypt,
  cryptoDeadlineMs,
  cryptoFault,
  describe,
  type Fault,
  fault,
  KeyObjects,
  type Outcome,
  tokenName,
  whyNotAes256,
  witnessJson,
} from './key-objects.js';

interface Wanted {
  readonly objectId: string | null;
  readonly label: string | null;
}

interface Finding {
  readonly token: AdministeredToken;
  readonly found: Outcome<ObjectDescription>;
}

/**
 * Looks for one key on every token. What is registered is what all that hold the object allow; the witness is made on
 * the first of them and decrypted on the others, so that a token with other bytes behind the same CKA_ID is seen before
 * the key is used (hsm.md's key-consistency gate; later, the witness check before each first use is the gate).
 */
export async function inspectKey(
  { tokens, random, clock }: InspectionParts,
  wanted: Wanted,
): Promise<Outcome<HsmReplyValues['inspect-key']>> {
  const asNamed = await Promise.all(
    tokens.map(async (token): Promise<Finding> => {
      const found = await new KeyObjects(token, random, clock).find(wanted);
      return { token, found };
    }),
  );
  const findings = await withOtherLabels(asNamed, wanted, random, clock);
  const holders = findings.flatMap(({ token, found }) => (found.ok ? [{ token, object: found.value }] : []));
  const [first] = holders;
  if (first === undefined) return fault(whyNotFound(findings));
  const stranger = holders.find(({ object }) => object.objectId !== first.object.objectId);
  if (stranger !== undefined) {
    const message = `the tokens disagree: ${describe(first.object)} on ${tokenName(first.token)}, ${describe(stranger.object)} on ${tokenName(stranger.token)}; name the object by its CKA_ID`;
    return fault({ code: 'object-ambiguous', message });
  }
  for (const { object } of holders) {
    const unsuitable = whyNotAes256(object);
    if (unsuitable !== null) return fault({ code: 'object-unsuitable', message: unsuitable });
  }
  const object = whatAllAllow(
    first.object,
    holders.map((holder) => holder.object),
  );
  let witness: Witness | null = null;
  if (canEncryptAndDecrypt(object)) {
    const made = await new KeyObjects(first.token, random, clock).witnessOf(object);
    if (!made.ok) return made;
    witness = made.value;
  }
  const known = witness;
  const onTokens = await Promise.all(
    findings.map(({ token, found }): Promise<KeyOnToken> | KeyOnToken => {
      if (token === first.token) return told(token, 'yes', null);
      if (found.ok) return isSameKey(token, object, found.value, known, clock);
      return notFound(token, found.error);
    }),
  );
  return ok({ object, witness: known === null ? null : witnessJson(known), tokens: onTokens });
}

/** Whether a registered key is on each of the tokens, by the witness that key state holds. */
export async function locateKey(
  { tokens, random, clock }: InspectionParts,
  { objectId: id, witness, checkValue }: RegisteredKey,
): Promise<Outcome<HsmReplyValues['locate-key']>> {
  const known = witness === null ? null : witnessOfJson(witness);
  const onTokens = await Promise.all(
    tokens.map(async (token): Promise<KeyOnToken> => {
      const found = await new KeyObjects(token, random, clock).find({ objectId: id, label: null });
      if (found.ok) return isSameKey(token, { objectId: id, checkValue }, found.value, known, clock);
      return notFound(token, found.error);
    }),
  );
  return ok({ tokens: onTokens });
}

export interface RegisteredKey {
  /** CKA_ID, hexadecimal. */
  readonly objectId: string;
  readonly witness: WitnessJson | null;
  readonly checkValue: string | null;
}

export interface InspectionParts {
  readonly tokens: readonly AdministeredToken[];
  readonly random: RandomSource;
  readonly clock: Clock;
}

/** Labels are for people: where one token has an object of that label, the others are asked for its CKA_ID. */
async function withOtherLabels(
  findings: readonly Finding[],
  { label }: Wanted,
  random: RandomSource,
  clock: Clock,
): Promise<readonly Finding[]> {
  const first = findings.find(({ found }) => found.ok)?.found;
  if (label === null || first?.ok !== true) return findings;
  const { objectId } = first.value;
  return Promise.all(
    findings.map(async (finding) =>
      finding.found.ok || finding.found.error.code !== 'object-not-found'
        ? finding
        : {
            token: finding.token,
            found: await new KeyObjects(finding.token, random, clock).find({ objectId, label: null }),
          },
    ),
  );
}

/** An answer of a token that was asked weighs more than the silence of another. */
function whyNotFound(findings: readonly Finding[]): Fault {
  const faults = findings.flatMap(({ found }) => (found.ok ? [] : [found.error]));
  const telling = faults.find(({ code }) => code !== 'object-not-found') ?? faults[0];
  return telling ?? { code: 'object-not-found', message: 'there is no token to look on' };
}

function whatAllAllow(first: ObjectDescription, objects: readonly ObjectDescription[]): ObjectDescription {
  return {
    ...first,
    usage: first.usage.filter((usage) => objects.every((other) => other.usage.includes(usage))),
    // What is amiss on one of them is amiss.
    sensitive: objects.some(({ sensitive }) => sensitive === false) ? false : first.sensitive,
    extractable: objects.some(({ extractable }) => extractable === true) ? true : first.extractable,
    checkValue: objects.find(({ checkValue }) => checkValue !== null)?.checkValue ?? null,
  };
}

async function isSameKey(
  token: AdministeredToken,
  object: Pick<ObjectDescription, 'objectId' | 'checkValue'>,
  found: ObjectDescription,
  witness: Witness | null,
  clock: Clock,
): Promise<KeyOnToken> {
  if (witness === null) {
    if (found.checkValue === null || object.checkValue === null) {
      return told(token, 'unknown', 'it cannot both encrypt and decrypt, and has no check value to compare');
    }
    return told(token, found.checkValue === object.checkValue ? 'yes' : 'another', null);
  }
  const key = { objectId: objectId(object.objectId), witness };
  const deadlineMs = clock.monotonicMs() + cryptoDeadlineMs;
  const opened = await token.crypto.decrypt({ key, gcmAad: witnessAad, ...witness }, deadlineMs);
  if (opened.ok) {
    wipe(opened.value);
    return told(token, 'yes', null);
  }
  const isAnother = opened.error.kind === 'key-lost' || opened.error.kind === 'bad-ciphertext';
  return isAnother
    ? told(token, 'another', null)
    : told(token, 'unknown', cryptoFault('decrypting its witness', opened.error).message);
}

function notFound(token: AdministeredToken, { code, message }: Fault): KeyOnToken {
  return code === 'object-not-found' ? told(token, 'no', null) : told(token, 'unknown', message);
}

const bytesOfHex = (hex: string): Uint8Array => decodeHex(hex) ?? new Uint8Array();

const witnessOfJson = ({ iv, ciphertext, tag }: WitnessJson): Witness => ({
  iv: bytesOfHex(iv),
  ciphertext: bytesOfHex(ciphertext),
  tag: bytesOfHex(tag),
});

function told(token: AdministeredToken, holds: KeyOnToken['holds'], reason: string | null): KeyOnToken {
  return { token: tokenName(token), holds, reason };
}
