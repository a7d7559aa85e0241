import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { errorText } from '../../src/base/guards.js';
import type { FaultCase, FaultContext } from './fault-case.js';
import { type FaultNode, servingProcesses } from './fault-node.js';
import type { LoadClient } from './load-client.js';
import type { Stretch } from './load-protocol.js';
import { capacityOf } from './token-capacity.js';
import { type CaseOutcome, problemsOf } from './verdict.js';

export interface CaseResult {
  readonly faultCase: FaultCase;
  readonly outcome: CaseOutcome | null;
  /** Empty: it has passed. */
  readonly problems: readonly string[];
}

/** Without a failure for so long, all is well: before a fault, and after it. */
const wellMs = 1_500;
const wellBeforeMsMax = 30_000;
const tailMsMax = 15_000;
const pollMs = 100;
const againMs = 1_000;
const metricsAgeMsMax = 2_500;

const epochMs = (): number => performance.timeOrigin + performance.now();

export interface RunOptions {
  readonly tokens: number;
  readonly seconds: number;
  readonly rate: number;
}

/** Breaks a token of a node under load, mends it, and judges. Never rejects. */
export async function runCase(
  node: FaultNode,
  load: LoadClient,
  faultCase: FaultCase,
  { tokens, seconds, rate }: RunOptions,
): Promise<CaseResult> {
  const { token, otherShims } = node;
  const context: FaultContext = {
    token,
    otherShims,
    load,
    rate,
    servingProcesses,
    servingPids: () => node.servingPids(),
    whyUnavailable: () => node.whyUnavailable(),
    accept: () => node.accept(),
  };
  try {
    if ((await wellAgain(load, epochMs(), wellBeforeMsMax)) === null)
      throw new Error('the node was not well before anything was broken');
    const fromMs = epochMs();
    await faultCase.begin(context);
    const endMs = fromMs + seconds * 1_000;
    const { overload, sessions = 1 } = faultCase;
    // Once the metrics have left the time before the fault behind.
    const slowed = overload === undefined ? null : delay(metricsAgeMsMax).then(() => node.callTimes());
    // Its failure is told where it is waited for.
    slowed?.catch(() => {});
    for (let nextMs = fromMs + againMs; nextMs < endMs; nextMs += againMs) {
      await untilMs(nextMs);
      await faultCase.again?.(context);
    }
    await untilMs(endMs);
    const capacity =
      overload === undefined || slowed === null
        ? {}
        : {
            capacity: capacityOf(await slowed, await node.callTimes(), {
              sessions: sessions * tokens * servingProcesses,
              callsEach: overload.callsEach,
            }),
          };
    await faultCase.end?.(context);
    token.shim.setFaults();
    token.shim.releaseAll();
    const mendedMs = epochMs();
    const recoveryMs = await wellAgain(load, mendedMs, tailMsMax);
    await faultCase.after?.(context);
    const during = await load.report({ fromMs, untilMs: mendedMs });
    // What is due now may still be on its way.
    const after = await load.report({ fromMs: mendedMs, untilMs: epochMs() - wellMs / 2 } satisfies Stretch);
    const outcome = { during, recoveryMs, after, ...capacity };
    return { faultCase, outcome, problems: problemsOf(faultCase, tokens, outcome) };
  } catch (failure) {
    return { faultCase, outcome: null, problems: [errorText(failure)] };
  }
}

/** Waits until nothing has failed for a while. @returns from `sinceMs` until the last failure; `null`: not within `maxMs`. */
async function wellAgain(load: LoadClient, sinceMs: number, maxMs: number): Promise<number | null> {
  while (epochMs() < sinceMs + maxMs) {
    const lastMs = Math.max(sinceMs, await load.lastFailureMs());
    if (epochMs() - lastMs >= wellMs) return lastMs - sinceMs;
    await delay(pollMs);
  }
  return null;
}

async function untilMs(ms: number): Promise<void> {
  const waitMs = ms - epochMs();
  if (waitMs > 0) await delay(waitMs);
}
