import type { MemberId, Membership } from '../raft/types.js';
import type { PeerMessage } from './peer-message.js';

/** Carries messages to other members; each may be lost. What arrives goes to a `PeerInbox`. */
export interface PeerTransport {
  /** Returns at once; drops what does not fit into its bounds. */
  send(to: MemberId, message: PeerMessage): void;
  /** Who may be sent to and heard from now on: connects to new members, leaves those that are gone. */
  setMembers(membership: Membership): void;
  close(): Promise<void>;
}

/** Where a transport delivers. Both return at once and do nothing once the log is closed. */
export interface PeerInbox {
  /** `from` is authenticated: a member of this cluster. */
  receive(from: MemberId, message: PeerMessage): void;
  /** Messages to this member are being lost. */
  unreachable(member: MemberId): void;
}

/** Of a cluster of one: there is nobody to talk to. */
export const nullTransport: PeerTransport = {
  send() {},
  setMembers() {},
  async close() {},
};
