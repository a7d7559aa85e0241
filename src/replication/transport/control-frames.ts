import type { EventEmitter } from 'node:events';
import { constants, type ServerHttp2Session } from 'node:http2';
import type { Timers } from '../../base/timers.js';
import { controlFramesMax, controlFramesWindowMs } from './limits.js';

/**
 * HTTP/2 frames that cost us an answer and belong to no stream: PING and SETTINGS (RFC 9113 §10.5). A peer sends a few; who
 * sends many is cut off. nghttp2 itself bounds streams that are reset, and answers that are not read.
 *
 * @returns ends the counting: sessions that were destroyed may close later.
 */
export function limitControlFrames(sessions: EventEmitter, timers: Timers): () => void {
  const windows = new Set<() => void>();
  sessions.on('session', (session: ServerHttp2Session) => {
    let frames = 0;
    let cancel: (() => void) | null = null;
    const endWindow = (): void => {
      if (cancel === null) return;
      cancel();
      windows.delete(endWindow);
      cancel = null;
      frames = 0;
    };
    const count = (): void => {
      frames += 1;
      if (cancel === null) {
        cancel = timers.after(controlFramesWindowMs, endWindow);
        windows.add(endWindow);
      }
      if (frames <= controlFramesMax || session.destroyed) return;
      session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      session.destroy();
    };
    session.on('ping', count);
    session.on('remoteSettings', count);
    session.once('close', endWindow);
  });
  return () => {
    for (const endWindow of windows) endWindow();
  };
}
