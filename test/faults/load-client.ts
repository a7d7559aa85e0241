import { type ChildProcess, fork } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoadCommand, LoadPlan, LoadReply, Stretch, StretchReport } from './load-protocol.js';

const program = join(dirname(fileURLToPath(import.meta.url)), 'load-process.js');

/** The other end of the load's process. One command at a time. */
export class LoadClient {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Connects and sends from then on. */
  static async start(plan: LoadPlan): Promise<LoadClient> {
    const load = new LoadClient(fork(program, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }));
    try {
      await load.#ask({ kind: 'start', plan });
      return load;
    } catch (failure) {
      await load.stop();
      throw failure;
    }
  }

  async spoil(share: number): Promise<void> {
    await this.#ask({ kind: 'spoil', share });
  }

  /** When the last answer came that was not right; milliseconds of the Unix epoch, 0 for none. */
  async lastFailureMs(): Promise<number> {
    const reply = await this.#ask({ kind: 'last-failure' });
    return reply.kind === 'last-failure' ? reply.atMs : Number.NaN;
  }

  async report(stretch: Stretch): Promise<StretchReport> {
    const reply = await this.#ask({ kind: 'report', stretch });
    if (reply.kind !== 'report') throw new Error(`expected a report, not ${reply.kind}`);
    return reply.report;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.connected) this.#child.disconnect();
    await ended;
  }

  #ask(command: LoadCommand): Promise<LoadReply> {
    return new Promise((resolve, reject) => {
      const exited = (): void => reject(new Error('the load has ended'));
      this.#child.once('exit', exited);
      this.#child.once('message', (reply: LoadReply) => {
        this.#child.off('exit', exited);
        if (reply.kind === 'failed') reject(new Error(reply.message));
        else resolve(reply);
      });
      this.#child.send(command);
    });
  }
}
