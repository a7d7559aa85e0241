/**
 * A connection as either end of the state link uses it: of `net.Socket`, that part. The simulator brings its own, so
 * that both ends run as they are.
 */
export interface LinkConnection {
  readonly destroyed: boolean;
  /** Bytes handed over that the other side has yet to take. */
  readonly writableLength: number;
  /** False: enough waits; a 'drain' says when there is room again. */
  write(bytes: Uint8Array): boolean;
  destroy(): unknown;
  pause(): unknown;
  resume(): unknown;
  /** 'connect' at the end that connects; 'close' last, and once, whatever happened. */
  on(event: 'connect' | 'drain' | 'close', listener: () => void): unknown;
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  /** Always followed by 'close'. */
  on(event: 'error', listener: (error: Error) => void): unknown;
}
