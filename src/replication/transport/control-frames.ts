import type { EventEmitter } from 'node:events';
import { constants, type ServerHttp2Session } from 'node:http2';
import type { Timers } from '../../base/timers.js';
import { controlFramesMax, controlFramesWindowMs } from './limits.js';

/**
 * HTTP/2 frames that cost us an answer and belong to no stream: PING and SETTINGS (RFC 9113 §10.5). A peer sends a few; who
 * sends many is cut off. nghttp2 itself bounds streams that are reset, and answers that are not read.
 */
export function limitControlFrames(sessions: EventEmitter, timers: Timers): void {
  sessions.on('session', (session: ServerHttp2Session) => {
    let frames = 0;
    let cancel: (() => void) | null = null;
    const count = (): void => {
      frames += 1;
      cancel ??= timers.after(controlFramesWindowMs, () => {
        frames = 0;
        cancel = null;
      });
      if (frames <= controlFramesMax || session.destroyed) return;
      session.goaway(constants.NGHTTP2_ENHANCE_YOUR_CALM);
      session.destroy();
    };
    session.on('ping', count);
    session.on('remoteSettings', count);
    session.once('close', () => cancel?.());
  });
}
