import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export type WriterOrder = { readonly kind: 'write'; readonly rate: number } | { readonly kind: 'stop' };
/** To its start, and to `stop`: how many changes were made. */
export type WriterReport =
  | { readonly kind: 'made'; readonly made: number }
  | { readonly kind: 'failed'; readonly reason: string };

/** Changes of key state beside the load: each is a write to the durable logs of a quorum. */
export class AdminWrites {
  readonly #writer: ChildProcess;

  private constructor(writer: ChildProcess) {
    this.#writer = writer;
  }

  static async start(socketPath: string): Promise<AdminWrites> {
    const writes = new AdminWrites(
      fork(fileURLToPath(import.meta.resolve('./admin-writer.js')), [socketPath]),
    );
    await writes.#report();
    return writes;
  }

  begin(rate: number): void {
    this.#tell({ kind: 'write', rate });
  }

  /** @returns how many were made; rejects when one was not. */
  end(): Promise<number> {
    const made = this.#report();
    this.#tell({ kind: 'stop' });
    return made;
  }

  close(): void {
    if (this.#writer.connected) this.#writer.disconnect();
  }

  #tell(order: WriterOrder): void {
    this.#writer.send(order);
  }

  #report(): Promise<number> {
    return new Promise((resolve, reject) => {
      const gone = (code: number | null): void => reject(new Error(`the writer ended with ${code}`));
      this.#writer.once('exit', gone);
      this.#writer.once('message', (report: WriterReport) => {
        this.#writer.off('exit', gone);
        if (report.kind === 'made') resolve(report.made);
        else reject(new Error(report.reason));
      });
    });
  }
}
