import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import root from 'tap';
import { testCertificates } from '../support/certificates.js';
import { FuzzInputs, http1Bytes } from '../support/fuzz-inputs.js';
import {
  Dialer,
  Http1Lane,
  Http2Lane,
  rawHttp1Verdict,
  rawHttp2Verdict,
  type Verdict,
} from '../support/fuzz-lanes.js';
import type { FuzzReport } from '../support/fuzz-server.js';
import { SeededRandom } from '../support/seeded-random.js';

/** A run is replayed with `XKSD_FUZZ_SEED`. */
const seed = Number(process.env['XKSD_FUZZ_SEED'] ?? 20_260_115);

/** Requests of each kind; ≥ 20,000 in all. */
const counts = { http1: 11_000, http2: 6_000, rawHttp1: 1_500, rawHttp2: 2_000 };
const lanes = 8;
const faultsShownMax = 5;

interface Fault {
  readonly kind: string;
  readonly fault: string;
  readonly input: string;
}

root.test(
  `X-X1: malformed requests find no crash, no hang, no answer that KMS could not read (seed ${seed})`,
  async (t) => {
    const certificates = await testCertificates(t.testdir());
    const child = fork(join(import.meta.dirname, '../support/fuzz-server.js'), [
      join(certificates.directory, 'server.pem'),
      join(certificates.directory, 'server.key'),
    ]);
    let crash: string | null = null;
    child.once('exit', (code, signal) => {
      crash = `exit code ${code}, signal ${signal}`;
    });
    t.teardown(() => void child.kill('SIGKILL'));
    const { port } = (await reportOf(child)) as { port: number };
    const dialer = new Dialer({ port, certificates });
    const inputs = new FuzzInputs(new SeededRandom(seed), `localhost:${port}`);
    const faults: Fault[] = [];
    let sent = 0;
    const judge = (kind: string, input: () => string, fault: Verdict): void => {
      if (fault !== null) faults.push({ kind, fault, input: input() });
    };
    const inLanes = async (count: number, one: (lane: number) => Promise<number>): Promise<void> => {
      const end = sent + count;
      const run = async (lane: number): Promise<void> => {
        while (sent < end && crash === null && faults.length < faultsShownMax) {
          const requests = await one(lane);
          sent += requests;
        }
      };
      await Promise.all(Array.from({ length: lanes }, (_, lane) => run(lane)));
    };

    const http1 = Array.from({ length: lanes }, () => new Http1Lane(dialer));
    await inLanes(counts.http1, async (lane) => {
      const request = inputs.wellFramed();
      const shown = (): string => http1Bytes(request, 'length').toString('latin1');
      judge('HTTP/1.1', shown, (await http1[lane]?.exchange(request)) ?? null);
      return 1;
    });
    for (const lane of http1) lane.close();

    const http2 = Array.from({ length: lanes }, () => new Http2Lane(dialer));
    await inLanes(counts.http2, async (lane) => {
      const request = inputs.wellFramed();
      const verdict = (await http2[lane]?.exchange(request)) ?? null;
      if (verdict === 'unsent') return 0;
      judge('HTTP/2', () => http1Bytes(request, 'length').toString('latin1'), verdict);
      return 1;
    });
    for (const lane of http2) lane.close();

    await inLanes(counts.rawHttp1, async () => {
      const bytes = inputs.rawHttp1();
      judge('HTTP/1 bytes', () => bytes.toString('latin1'), await rawHttp1Verdict(dialer, bytes));
      return 1;
    });

    await inLanes(counts.rawHttp2, async () => {
      const { bytes, requests } = inputs.rawHttp2();
      judge('HTTP/2 frames', () => bytes.toString('hex'), await rawHttp2Verdict(dialer, bytes));
      return requests;
    });

    t.equal(crash, null, 'the server lives');
    for (const { kind, fault, input } of faults) {
      t.fail(`${kind}: ${fault}`, { seed, input: input.slice(0, 4_000) });
    }
    if (crash !== null) return;
    t.ok(sent >= 20_000 || faults.length > 0, `${sent} requests`);
    const after = new Http1Lane(dialer);
    t.equal(await after.exchange(inputs.wellFramed()), null, 'and still answers');
    after.close();
    // Nothing of all that is left behind.
    for (;;) {
      child.send('connections');
      const { connections } = (await reportOf(child)) as { connections: number };
      if (connections === 0) break;
    }
  },
);

async function reportOf(child: ChildProcess): Promise<FuzzReport> {
  const [report] = (await once(child, 'message')) as [FuzzReport];
  return report;
}
