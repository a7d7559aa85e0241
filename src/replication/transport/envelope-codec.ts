import { BinaryReader } from '@bufbuild/protobuf/wire';
import { invariant, unreachable } from '../../base/guards.js';
import { err, ok, type Result } from '../../base/result.js';
import type { MemberId, Message } from '../../raft/types.js';
import type { NodeReport, PeerAddress, PeerEnvelope, PeerMessage } from '../peer-message.js';
import * as wire from './generated/peer.js';
import {
  decodeEntryKind,
  decodeRaft,
  decodeSnapshot,
  encodeEntryKind,
  encodeRaft,
  encodeSnapshot,
} from './raft-codec.js';
import {
  addressLengthMax,
  checkedId,
  checkedPosition,
  checkedText,
  idLengthMax,
  isId,
  MalformedMessage,
  reasonLengthMax,
  required,
} from './wire-checks.js';

type WireMessage = NonNullable<wire.Envelope['message']>;

/** In one report. */
const stateHashesMax = 1_024;
/** More than a cluster has (`clusterLimits.membersMax` of key state); a later release may have more. */
const listedMembersMax = 16;

/** Bytes of a buffer of its own. The big fields are copied once, into it. */
export function encodeEnvelope(envelope: PeerEnvelope): Buffer {
  const { format, clusterId, from, to, message } = envelope;
  const bytes = wire.Envelope.encode({
    format,
    clusterId,
    from,
    to,
    message: encodeMessage(message, from, to),
  }).finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function encodeMessage(message: PeerMessage, from: MemberId, to: MemberId): WireMessage {
  const checkAddress = (raft: Message): void =>
    invariant(raft.from === from && raft.to === to, `a ${raft.kind} for another member than its envelope's`);
  switch (message.kind) {
    case 'raft':
      checkAddress(message.message);
      return { $case: 'raft', value: encodeRaft(message.message) };
    case 'propose': {
      const { proposalId, entryKind, command } = message;
      return { $case: 'propose', value: { proposalId, entryKind: encodeEntryKind(entryKind), command } };
    }
    case 'proposeResponse': {
      const { proposalId, position, reason } = message;
      return {
        $case: 'proposeResponse',
        value: { proposalId, position: position ?? undefined, reason: reason.slice(0, reasonLengthMax) },
      };
    }
    case 'snapshotChunk': {
      const { message: snapshot, offset, data, last } = message;
      checkAddress(snapshot);
      return {
        $case: 'snapshotChunk',
        value: { term: snapshot.term, snapshot: encodeSnapshot(snapshot), offset, data, last },
      };
    }
    case 'snapshotChunkResponse': {
      const { position, nextOffset } = message;
      return {
        $case: 'snapshotChunkResponse',
        value: { position, nextOffset: nextOffset === -1 ? undefined : nextOffset },
      };
    }
    case 'report':
      return { $case: 'report', value: { ...message.report, members: message.report.members ?? [] } };
    default:
      return unreachable(message);
  }
}

/** An envelope whose message may be of a kind that a newer version knows. */
export interface ReceivedEnvelope extends Omit<PeerEnvelope, 'message'> {
  readonly message: PeerMessage | null;
}

/**
 * Refuses what no version of ours sends; never throws. The big fields are views of `bytes`. The error is for the log and
 * quotes nothing of the message.
 */
export function decodeEnvelope(bytes: Uint8Array): Result<ReceivedEnvelope, string> {
  try {
    const reader = new BinaryReader(bytes);
    const { format, clusterId, from, to, message } = wire.Envelope.decode(reader);
    // The generated decoder stops at an end-of-group tag or a zero.
    if (reader.pos !== reader.len) throw new MalformedMessage(`ends at byte ${reader.pos} of ${reader.len}`);
    checkedId(clusterId, 'cluster id');
    checkedId(from, 'sender');
    checkedId(to, 'receiver');
    return ok({ format, clusterId, from, to, message: decodeMessage(message, from, to) });
  } catch (thrown) {
    return err(thrown instanceof MalformedMessage ? thrown.message : 'not a protocol buffer of ours');
  }
}

function decodeMessage(message: wire.Envelope['message'], from: MemberId, to: MemberId): PeerMessage | null {
  if (message === undefined) return null;
  switch (message.$case) {
    case 'raft': {
      const raft = decodeRaft(message.value, from, to);
      return raft === null ? null : { kind: 'raft', message: raft };
    }
    case 'propose': {
      const { proposalId, entryKind, command } = message.value;
      const kind = decodeEntryKind(entryKind);
      // A leader's own.
      if (kind === 'noop') throw new MalformedMessage('a noop proposed');
      return { kind: 'propose', proposalId: checkedId(proposalId, 'proposal id'), entryKind: kind, command };
    }
    case 'proposeResponse': {
      const { proposalId, position, reason } = message.value;
      return {
        kind: 'proposeResponse',
        proposalId: checkedId(proposalId, 'proposal id'),
        position: position === undefined ? null : checkedPosition(position, 'position'),
        reason: checkedText(reason, reasonLengthMax, 'reason'),
      };
    }
    case 'snapshotChunk': {
      const { term, snapshot, offset, data, last } = message.value;
      return {
        kind: 'snapshotChunk',
        message: decodeSnapshot(required(snapshot, 'snapshot'), term, from, to),
        offset,
        data,
        last,
      };
    }
    case 'snapshotChunkResponse': {
      const { position, nextOffset } = message.value;
      return {
        kind: 'snapshotChunkResponse',
        position: checkedPosition(position, 'snapshot position'),
        nextOffset: nextOffset ?? -1,
      };
    }
    case 'report':
      return { kind: 'report', report: decodeReport(message.value) };
    default:
      return unreachable(message);
  }
}

/**
 * `null`: of no use here. The report is for much besides, and was made up from what all members agreed on: one member that
 * can't be read must not end every stream that its name comes through.
 */
function readMember({ memberId, name, address }: wire.Member): PeerAddress | null {
  const isReadable = isId(memberId) && isId(name) && address.length > 0 && address.length <= addressLengthMax;
  return isReadable ? { memberId, name, address } : null;
}

function decodeReport(report: wire.Report): NodeReport {
  const { stateHashes, wallMs } = report;
  if (stateHashes.length > stateHashesMax) throw new MalformedMessage(`${stateHashes.length} state hashes`);
  const members = report.members
    .slice(0, listedMembersMax)
    .map(readMember)
    .filter((member) => member !== null);
  if (!Number.isFinite(wallMs)) throw new MalformedMessage('a clock that is no number');
  return {
    nodeName: checkedId(report.nodeName, 'node name'),
    version: checkedText(report.version, idLengthMax, 'version'),
    formatMax: report.formatMax,
    configHash: checkedText(report.configHash, idLengthMax, 'configuration hash'),
    wallMs,
    appliedIndex: report.appliedIndex,
    servingAppliedIndex: report.servingAppliedIndex,
    readyServingProcesses: report.readyServingProcesses,
    stateHashes: stateHashes.map(({ index, hash }) => ({ index, hash: checkedId(hash, 'state hash') })),
    ...(members.length > 0 && { members }),
  };
}
