import type { TokenStatus } from '../../ops/state-link.js';
import { healthStatusBody } from '../../xks/responses.js';

/** X-H2 allows so many; of more tokens the worst are shown (X-H3). */
const ekmFleetDetailsMax = 10;

const badness = { UNAVAILABLE: 0, DEGRADED: 1, ACTIVE: 2 } as const;

export interface ProxyIdentity {
  /** Live proxies, > 0 (X-H2). */
  readonly fleetSize: number;
  /** Of this software. */
  readonly version: string;
}

/** GetHealthStatus (X-H2), from what the background checks have last found (X-H3): never a call into the HSM. */
export function getHealthStatus(proxy: ProxyIdentity, tokens: readonly TokenStatus[]): Uint8Array {
  const worstFirst = [...tokens].sort((left, right) => badness[left.state] - badness[right.state]);
  const shown = worstFirst.slice(0, ekmFleetDetailsMax);
  return healthStatusBody({
    xksProxyFleetSize: proxy.fleetSize,
    xksProxyVendor: 'xksd',
    xksProxyModel: `xksd ${proxy.version}`,
    // Unknown until the token was seen once.
    ekmVendor: shown.find((token) => token.manufacturer)?.manufacturer ?? 'unknown',
    ekmFleetDetails: shown.map((token) => ({
      id: token.serial ?? token.label ?? token.uri,
      model: token.model ?? 'unknown',
      healthStatus: token.state,
    })),
  });
}
