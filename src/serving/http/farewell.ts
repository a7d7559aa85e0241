import type { Socket } from 'node:net';

/**
 * Ends our side, after `lastWords`, and gives the peer `lingerMs` to read: a close with bytes unread would reset what
 * was sent. What it still sends is thrown away.
 */
export function farewell(socket: Socket, lastWords: Buffer | null, lingerMs: number): void {
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once('close', () => clearTimeout(timer));
  if (lastWords === null) socket.end();
  else socket.end(lastWords);
  socket.resume();
}
