import { checkUriPathPrefix, isExternalKeyId } from '../xks/uri-path.js';
import { addressProblem, clusterProblem, formatProblem, idProblem, nameProblem } from './cluster-checks.js';
import { type IvReservation, ivLimits } from './iv-budget.js';
import {
  type Command,
  type CommandRefusal,
  limits,
  type OnIsolation,
  type PreparedToken,
  type SealedBytes,
} from './types.js';

const regionPattern = /^[a-z0-9]+(?:-[a-z0-9]+){2,5}$/;
const regionCharactersMax = 32;
const hexPattern = /^(?:[0-9a-f]{2})+$/;
/** X-A2, as `sigv4/` has it; a pure layer beside ours that we don't import. */
const accessKeyIdPattern = /^[A-Z2-7]{20,30}$/;
const printablePattern = /^[^\p{Cc}\p{Cs}\p{Zl}\p{Zp}]*$/u;
/** X-K1. */
const usages: readonly string[] = ['ENCRYPT', 'DECRYPT', 'SIGN', 'VERIFY', 'WRAP', 'UNWRAP', 'DERIVE'];
const checkValueBytesMax = 32;
const sealedTagBytes = 16;

/** What is wrong with a command whatever the state; `null` when nothing is. Worded for operators. */
export function checkCommand(command: Command): CommandRefusal | null {
  const problem = envelopeProblem(command) ?? fieldProblem(command);
  return problem === null ? null : { code: 'invalid', message: problem };
}

function envelopeProblem({ requestId, by }: Command): string | null {
  const { envelopeCharactersMax: max } = limits;
  if (requestId === '' || requestId.length > max) return `a request id has 1 to ${max} characters`;
  return by.length > max ? `"by" may have ${max} characters` : null;
}

function fieldProblem(command: Command): string | null {
  switch (command.type) {
    case 'cluster.init':
      return (
        idProblem('cluster', command.clusterId) ??
        nameProblem('node', command.nodeName) ??
        foundingProblem(command)
      );
    case 'token.prepare':
      return tokenProblem(command.token);
    case 'keystore.create':
      return (
        nameProblem('key store', command.name) ??
        checkUriPathPrefix(command.uriPathPrefix) ??
        regionsProblem(command.regions)
      );
    case 'credential.create':
      if (!accessKeyIdPattern.test(command.accessKeyId)) {
        return 'an access key id has 20 to 30 characters of A-Z and 2-7';
      }
      return sealedProblem('the secret access key', command.sealedSecret);
    case 'key.create':
      if (!isExternalKeyId(command.externalKeyId)) {
        return 'an external key id has 1 to 128 characters of A-Z, a-z, 0-9, ".", "_" and "-", and is neither "." nor ".."';
      }
      return (
        objectIdProblem(command.objectId) ??
        (command.witness === null ? null : sealedProblem('the witness', command.witness)) ??
        checkValueProblem(command.checkValue) ??
        usageProblem(command.usage) ??
        descriptionProblem(command.description)
      );
    // They name something that exists, or are refused for that.
    case 'keystore.enable':
    case 'keystore.disable':
    case 'credential.retire':
    case 'key.enable':
    case 'key.disable':
    case 'key.set':
      return null;
    case 'iv.reserve':
      return reservationsProblem(command);
    case 'keystore.set':
      return isolationProblem(command.onIsolation);
    default:
      return clusterProblem(command);
  }
}

function foundingProblem({
  memberId,
  address,
  format,
}: Extract<Command, { type: 'cluster.init' }>): string | null {
  if (memberId === undefined && address === undefined && format === undefined) return null;
  if (memberId === undefined || address === undefined || format === undefined) {
    return "a new cluster is given its first member, that one's address and a format, or none of them";
  }
  if (format < 2) return 'a cluster with members is of format 2 at least';
  return idProblem('member', memberId) ?? addressProblem(address) ?? formatProblem(format);
}

function isolationProblem(onIsolation: OnIsolation): string | null {
  if (onIsolation.rule === 'serve') return null;
  const { isolationBoundMsMin: min, isolationBoundMsMax: max } = limits;
  return onIsolation.boundMs >= min && onIsolation.boundMs <= max
    ? null
    : `an isolated node may go on for ${min / 1_000} to ${max / 1_000} seconds under on-isolation "stop"`;
}

function regionsProblem(regions: readonly string[]): string | null {
  const max = limits.regionsPerKeyStoreMax;
  if (regions.length === 0) return 'a key store needs at least one AWS Region: that of its KMS';
  if (regions.length > max) return `a key store has at most ${max} AWS Regions`;
  const unknown = regions.find((name) => name.length > regionCharactersMax || !regionPattern.test(name));
  if (unknown !== undefined) {
    return `${JSON.stringify(unknown.slice(0, regionCharactersMax))} is not the name of an AWS Region, such as eu-central-1`;
  }
  return new Set(regions).size === regions.length ? null : 'an AWS Region is named twice';
}

function objectIdProblem(objectId: string): string | null {
  const max = limits.objectIdBytesMax;
  return hexPattern.test(objectId) && objectId.length <= 2 * max
    ? null
    : `an object id (CKA_ID) is 1 to ${max} bytes in lower-case hexadecimal`;
}

function reservationsProblem({
  holder,
  sequence,
  reservations,
}: Extract<Command, { type: 'iv.reserve' }>): string | null {
  const { envelopeCharactersMax } = limits;
  if (sequence !== undefined && !(Number.isSafeInteger(sequence) && sequence > 0)) {
    return 'reservations are numbered from 1 on';
  }
  const { reservationsPerCommandMax: max } = ivLimits;
  if (holder === '' || holder.length > envelopeCharactersMax) {
    return `the holder of a reservation has 1 to ${envelopeCharactersMax} characters`;
  }
  if (reservations.length === 0 || reservations.length > max) return `1 to ${max} reservations go together`;
  if (new Set(reservations.map(({ objectId }) => objectId)).size < reservations.length) {
    return 'two reservations are of one object';
  }
  for (const reservation of reservations) {
    const problem = objectIdProblem(reservation.objectId) ?? reservationProblem(reservation);
    if (problem !== null) return problem;
  }
  return null;
}

function reservationProblem({ used, ahead }: IvReservation): string | null {
  const { encryptionsMax, blockMin, blockMax } = ivLimits;
  if (used > encryptionsMax) return `a process reports ${encryptionsMax} encryptions at once at most`;
  if (ahead !== 0 && (ahead < blockMin || ahead > blockMax)) {
    return `a block is of ${blockMin} to ${blockMax} encryptions`;
  }
  return used + ahead === 0 ? 'a reservation is of something' : null;
}

function checkValueProblem(checkValue: string | null): string | null {
  if (checkValue === null) return null;
  return hexPattern.test(checkValue) && checkValue.length <= 2 * checkValueBytesMax
    ? null
    : `a check value is 1 to ${checkValueBytesMax} bytes in lower-case hexadecimal`;
}

function usageProblem(usage: readonly string[]): string | null {
  const unknown = usage.find((word) => !usages.includes(word));
  if (unknown !== undefined) return `key usage is of ${usages.join(', ')}`;
  return new Set(usage).size === usage.length ? null : 'a key usage is named twice';
}

function descriptionProblem(description: string): string | null {
  const max = limits.descriptionCharactersMax;
  if (description.length > max) return `a description has at most ${max} characters`;
  return printablePattern.test(description)
    ? null
    : 'a description is one line of text without control characters';
}

function sealedProblem(of: string, sealed: SealedBytes): string | null {
  const { nonce, ciphertext, tag } = sealed;
  const max = limits.sealedCiphertextBytesMax;
  if (nonce.byteLength < 12 || nonce.byteLength > 16) return `the nonce of ${of} is not 12 to 16 bytes`;
  if (tag.byteLength !== sealedTagBytes) return `the tag of ${of} is not ${sealedTagBytes} bytes`;
  return ciphertext.byteLength >= 1 && ciphertext.byteLength <= max
    ? null
    : `the ciphertext of ${of} is not 1 to ${max} bytes`;
}

function tokenProblem(token: PreparedToken): string | null {
  const max = limits.tokenNameCharactersMax;
  const { serial, label, testKey, wrappingKey } = token;
  if (serial === '' || serial.length > max || !printablePattern.test(serial)) {
    return `a token needs a serial number of 1 to ${max} characters: without one it can't be told from others`;
  }
  if (label.length > max || !printablePattern.test(label))
    return `a token's label has at most ${max} characters`;
  if (testKey.objectId === wrappingKey.objectId) return 'the test key and the wrapping key are one object';
  return (
    objectIdProblem(testKey.objectId) ??
    objectIdProblem(wrappingKey.objectId) ??
    sealedProblem("the test key's witness", testKey.witness) ??
    sealedProblem("the wrapping key's witness", wrappingKey.witness) ??
    sealedProblem('the cluster secret', token.wrappedSecret) ??
    checkValueProblem(token.secretCheckValue)
  );
}
