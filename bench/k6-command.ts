import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LoadOptions } from './options.js';
import { runTool } from './tools/run-tool.js';
import { withSignedLoad } from './tools/signed-load.js';

/**
 * `npm run bench -- k6`: `bench/k6/xks.js` with requests signed for it. The program is `k6` in the path, or the one
 * that `K6` names. @returns k6's own exit status: 0 when every threshold held.
 */
export function k6Command(root: string, options: LoadOptions): Promise<number> {
  return withSignedLoad(root, options, async ({ requests, ca, directory }) => {
    const requestsFile = join(directory, 'requests.json');
    const caFile = join(directory, 'ca.pem');
    const forK6 = requests.map(({ headers, ...rest }) => ({ ...rest, headers: Object.fromEntries(headers) }));
    writeFileSync(requestsFile, JSON.stringify(forK6));
    if (ca !== null) writeFileSync(caFile, ca);
    const { rate, seconds, traffic } = options;
    const environment = {
      XKS_REQUESTS: requestsFile,
      XKS_RATE: String(rate),
      XKS_SECONDS: String(seconds),
      XKS_CONNECTIONS: String(traffic.connections),
      // Go's own names: whom to trust, and whether to offer HTTP/2.
      ...(ca !== null && { SSL_CERT_FILE: caFile }),
      ...(traffic.http === '1.1' && { GODEBUG: 'http2client=0' }),
    };
    const program = process.env['K6'] ?? 'k6';
    try {
      const script = join(root, 'bench/k6/xks.js');
      const { status } = await runTool(program, ['run', '--no-usage-report', script], {
        environment,
        keepOutput: false,
      });
      console.log(status === 0 ? 'PASS' : `FAIL: k6 ended with ${status}`);
      return status;
    } catch {
      throw new Error(`${program} can't be run: install k6, or name it in K6 (bench/README.md)`);
    }
  });
}
