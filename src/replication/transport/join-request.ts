import { err, type Result } from '../../base/result.js';
import * as wire from './generated/peer.js';
import { askForJson, type CallFailure } from './peer-call.js';
import { PeerChannel } from './peer-channel.js';
import { checkPeerTlsFiles, PeerChannelCredentials, type PeerTlsFiles } from './peer-credentials.js';
import type { JoinRequest } from './peer-server.js';

/** Asks the member at `address` to let this node in, over a connection of its own. Never rejects. */
export async function requestJoin(options: {
  /** `host:port`. */
  readonly address: string;
  /** Of the node there; `null`: any that our CA certified, which then learns the token's secret. */
  readonly name: string | null;
  readonly files: PeerTlsFiles;
  readonly request: JoinRequest;
  readonly deadlineMs: number;
}): Promise<Result<unknown, CallFailure>> {
  const { address, name, files, request, deadlineMs } = options;
  const usable = checkPeerTlsFiles(files);
  if (!usable.ok) return err({ kind: 'not-asked', detail: usable.error, refusal: null });
  const channel = new PeerChannel(address, new PeerChannelCredentials(files, name));
  try {
    const bytes = Buffer.from(wire.JoinRequest.encode(request).finish());
    return await askForJson(channel, 'join', bytes, deadlineMs);
  } finally {
    channel.close();
  }
}
