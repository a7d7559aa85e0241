import { err, type Result } from '../base/result.js';
import { commandFormatMax } from '../keystate/command-format.js';
import type { Config } from '../ops/config.js';
import { readingProblem } from './admin-reading.js';
import type { ClusterControl } from './cluster-control.js';
import type { Fencing } from './fencing.js';
import { configHash } from './node-report.js';
import type { OpenedLog } from './open-log.js';
import type { StandingWatch } from './standing-watch.js';

export interface EngineControlOptions {
  readonly config: Config;
  readonly opened: OpenedLog;
  readonly standing: StandingWatch;
  readonly fencing: Fencing;
  readonly joinProblem: () => string | null;
  readonly found: () => Promise<Result<null, string>>;
  /** Boot clock, ms. */
  readonly bootTimeMs: () => number;
}

/** What administration may ask of the engine that this node runs. */
export function engineControl(options: EngineControlOptions): ClusterControl {
  const { config, opened, standing, fencing, joinProblem, found, bootTimeMs } = options;
  const { engine, log, machine, peers } = opened;
  return {
    memberId: engine.memberId,
    clusterId: engine.clusterId,
    status: () => engine.status(),
    stateHash: () => machine.stateHash(),
    standing: () => standing.standing(),
    joinProblem,
    refusals: () => fencing.refusals(),
    peerStats: () => peers?.stats() ?? null,
    certificateNotAfterMs: () => peers?.certificateNotAfterMs ?? null,
    transferLeadership: (memberId) => engine.transferLeadership(memberId),
    readIndex: async (timeoutMs) => {
      const read = await log.readIndex(timeoutMs);
      return read.ok ? read : err(readingProblem(read.error));
    },
    ask: (memberId, command, body, caller) =>
      peers === null
        ? Promise.resolve(err({ code: 'no-quorum', message: 'This node has no way to other members.' }))
        : peers.call(memberId, command, { body, uid: caller.uid, requestId: caller.requestId }),
    found,
    bootTimeMs,
    formatMax: commandFormatMax,
    configHash: configHash(config),
  };
}
