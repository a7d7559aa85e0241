import type { MethodDefinition } from '@grpc/grpc-js';
import { ReplicationDefinition } from './generated/peer.js';

type RawMethod = MethodDefinition<Buffer, Buffer>;

const raw = (bytes: Buffer): Buffer => bytes;

/**
 * gRPC moves bytes here; messages are encoded before they are queued, so that queues are bounded by what they hold, and
 * decoded where a malformed one can be refused by name.
 */
const rawMethod = (method: {
  readonly name: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
}): RawMethod => ({
  path: `/${ReplicationDefinition.fullName}/${method.name}`,
  requestStream: method.requestStream,
  responseStream: method.responseStream,
  requestSerialize: raw,
  requestDeserialize: raw,
  responseSerialize: raw,
  responseDeserialize: raw,
});

export const peerService = {
  exchange: rawMethod(ReplicationDefinition.methods.exchange),
  join: rawMethod(ReplicationDefinition.methods.join),
  call: rawMethod(ReplicationDefinition.methods.call),
} as const;
