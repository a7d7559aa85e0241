/** What the PKCS#11 calls of a node's Encrypts and Decrypts took, over all its tokens and processes, since it started. */
export interface CallTimes {
  readonly calls: number;
  readonly seconds: number;
}

const dataPath =
  /^xks_pkcs11_call_duration_seconds_(sum|count)\{[^}]*function="C_(?:Encrypt|Decrypt)(?:Init)?"[^}]*\} (\S+)$/gm;

/** Out of a node's metrics in the Prometheus text format. */
export function callTimes(metrics: string): CallTimes {
  const sum = { sum: 0, count: 0 };
  for (const [, kind, value] of metrics.matchAll(dataPath))
    sum[kind === 'sum' ? 'sum' : 'count'] += Number(value);
  return { calls: sum.count, seconds: sum.sum };
}

export interface Sessions {
  /** That can work at once, over all tokens and processes. */
  readonly sessions: number;
  /** PKCS#11 calls of a request, on average. */
  readonly callsEach: number;
}

/**
 * Requests a second that the tokens can do at most, as long as their calls were between the two. `NaN` where there was none:
 * how long they take is for the machine to say, as one that is busy wakes those late who slept.
 */
export function capacityOf(from: CallTimes, until: CallTimes, { sessions, callsEach }: Sessions): number {
  const secondsEach = (until.seconds - from.seconds) / (until.calls - from.calls);
  return sessions / (secondsEach * callsEach);
}
