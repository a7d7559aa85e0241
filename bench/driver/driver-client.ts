import { type ChildProcess, fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoadResult, LoadShape } from './load-run.js';
import type { DriverCommand, DriverPlan, DriverReport, Verification } from './protocol.js';

const program = join(dirname(fileURLToPath(import.meta.url)), '../driver-process.js');

/** The other end of a driver process. */
export class DriverClient {
  readonly #child: ChildProcess;
  /** CPU that signing one request takes the driver. */
  readonly signingMicros: number;

  private constructor(child: ChildProcess, signingMicros: number) {
    this.#child = child;
    this.signingMicros = signingMicros;
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Starts the process and prepares it. Rejects with what the proxy said when it can't be used. */
  static async start(plan: DriverPlan): Promise<DriverClient> {
    const child = fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    try {
      const report = await ask(child, { kind: 'prepare', plan });
      if (report.kind !== 'prepared') throw new Error(`expected a prepared driver, not ${report.kind}`);
      return new DriverClient(child, report.signingMicros / report.signedRequests);
    } catch (failure) {
      child.kill();
      throw failure;
    }
  }

  async run(shape: LoadShape): Promise<LoadResult> {
    const report = await ask(this.#child, { kind: 'run', shape });
    if (report.kind !== 'loaded') throw new Error(`expected a load result, not ${report.kind}`);
    return report.load;
  }

  /** Looks at a sample of the answers of the last run. */
  async verify(): Promise<Verification> {
    const report = await ask(this.#child, { kind: 'verify' });
    if (report.kind !== 'verified') throw new Error(`expected a verification, not ${report.kind}`);
    return report.verification;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.disconnect();
    await ended;
  }
}

function ask(child: ChildProcess, command: DriverCommand): Promise<DriverReport> {
  return new Promise((resolve, reject) => {
    const exited = (): void => reject(new Error('the driver has ended'));
    child.once('exit', exited);
    child.once('message', (report: DriverReport) => {
      child.off('exit', exited);
      if (report.kind === 'failed') reject(new Error(report.message));
      else resolve(report);
    });
    child.send(command);
  });
}
