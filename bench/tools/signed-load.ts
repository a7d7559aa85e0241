import { join } from 'node:path';
import { Driver, type SignedRequestParts } from '../driver/driver.js';
import { openTarget } from '../load-command.js';
import type { LoadOptions } from '../options.js';
import { makeWorkDirectory } from '../work-directory.js';

/** A proxy that has been warmed up, and requests for it that are good for five minutes from now (X-A3). */
export interface SignedLoad {
  readonly requests: readonly SignedRequestParts[];
  readonly url: string;
  /** PEM; `null`: the authorities that everybody trusts. */
  readonly ca: string | null;
  /** Exists while the load is used. */
  readonly directory: string;
}

/** Many enough that none comes again at once, few enough for a tool that copies them for each of its connections. */
const distinctRequests = 1_000;
/** Another tool can't sign: its run must end before the signatures do. */
const secondsMax = 240;

/** Prepares a load that another tool sends. @returns what `use` does. */
export async function withSignedLoad(
  root: string,
  options: LoadOptions,
  use: (load: SignedLoad) => Promise<number>,
): Promise<number> {
  const { traffic, rate, seconds, warmUpSeconds } = options;
  if (seconds > secondsMax)
    throw new Error(`--duration is at most ${secondsMax} s: signatures live five minutes`);
  const directory = makeWorkDirectory(join(root, 'var/bench'));
  const target = await openTarget(root, directory, null, options);
  try {
    const { urls, ca, access } = target;
    const { driver } = await Driver.prepare({ urls, ca, access, ...traffic });
    await driver.run({ kind: 'open', rate, seconds: warmUpSeconds });
    const requests = driver.signedRequests(distinctRequests);
    driver.close();
    return await use({ requests, url: urls[0] ?? '', ca, directory });
  } finally {
    await target.stop();
  }
}
