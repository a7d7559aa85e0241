import { type ChildProcess, fork, type Serializable } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { servingNodeOptions } from '../../src/cli/serving-node-options.js';

export interface MeasuredProgram {
  /** What it is called where it fails: `the rung http`. */
  readonly what: string;
  /** Path of its JavaScript. */
  readonly program: string;
  /** On top of ours. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where its standard output goes; `null`: where ours goes. */
  readonly logFile: string | null;
}

/**
 * A part of a serving process by itself, in a process that Node runs as it does a serving process in production. It is
 * told once what to do and answers once.
 */
export class MeasuredProcess<Order extends Serializable, Answer> {
  readonly #child: ChildProcess;
  /** Rejects with how it ended. */
  readonly #died: Promise<never>;

  constructor({ what, program, environment, logFile }: MeasuredProgram) {
    const output = logFile === null ? 'inherit' : openSync(logFile, 'a', 0o600);
    const child = fork(program, {
      env: { ...process.env, ...environment },
      execArgv: [...servingNodeOptions, ...process.execArgv],
      stdio: ['ignore', output, 'inherit', 'ipc'],
    });
    if (typeof output === 'number') closeSync(output);
    this.#child = child;
    this.#died = new Promise((_resolve, reject) => {
      child.on('error', (failure) => reject(new Error(`${what}: ${failure.message}`)));
      child.once('exit', (code, signal) => reject(new Error(`${what} ended with ${code ?? signal}`)));
    });
    // It is a failure only to those who wait for something else of it.
    this.#died.catch(() => {});
  }

  /** 0 where it could not be started. */
  get pid(): number {
    return this.#child.pid ?? 0;
  }

  ask(order: Order): Promise<Answer> {
    const answered = new Promise<Answer>((resolve) => this.#child.once('message', resolve));
    // That it cannot be told any more says less than how it ended.
    this.#child.send(order, () => {});
    return this.during(answered);
  }

  /** What `work` comes to; rejects with how the process ended as soon as it does. */
  during<T>(work: Promise<T>): Promise<T> {
    // Its end comes first: what else failed then failed by that.
    return Promise.race([this.#died, work]);
  }

  /** Also when it has ended by itself. */
  async end(): Promise<void> {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null) return;
    const exited = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill();
    await exited;
  }
}
