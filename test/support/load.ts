import { readFileSync } from 'node:fs';
import { isJsonObject } from '../../src/base/guards.js';
import { XksClient } from '../../src/demo/xks-client.js';
import { metadata, type RunningNode } from './running-node.js';

export interface Load {
  /** Requests answered with 200 so far. */
  readonly succeeded: number;
  /** What became of the others: an XKS answer that isn't 200, or a connection that broke. */
  readonly failures: readonly string[];
  /** Resolves after `count` more successes on connections old and new. */
  afterMore(count: number): Promise<void>;
  stop(): Promise<void>;
}

/** Requests one of its callers has under way: what a killed process can cost at most. */
export const callers = { kept: 4, fresh: 4 } as const;

/** Encrypts and decrypts until stopped: half the callers keep their connection, half make one for each request. */
export function startLoad(running: RunningNode): Load {
  const failures: string[] = [];
  let succeeded = 0;
  let stopped = false;
  const waiting: { at: number; resolve: () => void }[] = [];
  const options = {
    url: running.node.description.url,
    uriPathPrefix: running.uriPathPrefix,
    region: 'us-east-1',
    accessKeyId: running.accessKeyId,
    secretAccessKey: running.secretAccessKey,
    ca: readFileSync(running.caFile, 'utf8'),
  };
  const roundTrip = async (client: XksClient): Promise<void> => {
    const plaintext = Buffer.from(`data key ${succeeded}`).toString('base64');
    const encrypted = await client.call('/keys/key-1/encrypt', {
      requestMetadata: metadata,
      plaintext,
      encryptionAlgorithm: 'AES_GCM',
    });
    const decrypted = await client.call('/keys/key-1/decrypt', {
      requestMetadata: metadata,
      encryptionAlgorithm: 'AES_GCM',
      ...encrypted,
    });
    if (!isJsonObject(decrypted) || decrypted['plaintext'] !== plaintext) throw new Error('WRONG ANSWER');
  };
  const caller = async (fresh: boolean): Promise<void> => {
    let client = new XksClient(options);
    while (!stopped) {
      try {
        await roundTrip(client);
        succeeded += 2;
      } catch (failure) {
        failures.push(String(failure));
      }
      for (const waiter of waiting.splice(0)) {
        if (succeeded >= waiter.at) waiter.resolve();
        else waiting.push(waiter);
      }
      if (fresh) {
        await client.close();
        client = new XksClient(options);
      }
    }
    await client.close();
  };
  const running_ = [
    ...Array.from({ length: callers.kept }, () => caller(false)),
    ...Array.from({ length: callers.fresh }, () => caller(true)),
  ];
  return {
    get succeeded() {
      return succeeded;
    },
    failures,
    afterMore: (count) => new Promise((resolve) => waiting.push({ at: succeeded + count, resolve })),
    stop: async () => {
      stopped = true;
      await Promise.all(running_);
    },
  };
}
