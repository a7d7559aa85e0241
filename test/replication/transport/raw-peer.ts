import { Client, Metadata, type ServiceError } from '@grpc/grpc-js';
import type { Test } from 'tap';
import {
  PeerChannelCredentials,
  type PeerTlsFiles,
} from '../../../src/replication/transport/peer-credentials.js';
import { peerService } from '../../../src/replication/transport/peer-service.js';
import type { TestPeer } from './peers.js';

/** A client that sends bytes of the test's choosing on one stream. */
export class RawPeer {
  readonly #stream;
  /** How the other side ended the stream. */
  readonly ended: Promise<ServiceError | null>;

  constructor(t: Test, to: TestPeer, files: PeerTlsFiles) {
    const client = new Client(to.address, new PeerChannelCredentials(files, to.name).grpc, {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.ssl_target_name_override': 'xksd',
    });
    t.teardown(() => client.close());
    const { path, requestSerialize, responseDeserialize } = peerService.exchange;
    let end: (error: ServiceError | null) => void = () => {};
    this.ended = new Promise((resolve) => {
      end = resolve;
    });
    this.#stream = client.makeClientStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      new Metadata(),
      (error) => end(error),
    );
    this.#stream.on('error', () => {});
  }

  write(bytes: Buffer): void {
    this.#stream.write(bytes);
  }

  end(): void {
    this.#stream.end();
  }
}
