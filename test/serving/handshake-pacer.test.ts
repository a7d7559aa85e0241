import { Socket } from 'node:net';
import t from 'tap';
import { HandshakePacer, handshakesPerTurn } from '../../src/serving/http/handshake-pacer.js';

function pacer() {
  const begun: Socket[] = [];
  const turns: (() => void)[] = [];
  return {
    begun,
    turns,
    pacer: new HandshakePacer(
      (socket) => void begun.push(socket),
      (run) => void turns.push(run),
    ),
  };
}

t.test('one connection begins at once, and costs one look at the next turn', async (t) => {
  const { begun, turns, pacer: paced } = pacer();
  paced.take(new Socket());
  t.equal(begun.length, 1);
  turns.shift()?.();
  t.equal(turns.length, 0);
});

t.test(
  'many begin a few in each turn, in their order, and who was closed meanwhile takes no place',
  async (t) => {
    const { begun, turns, pacer: paced } = pacer();
    const sockets = Array.from({ length: 3 * handshakesPerTurn }, () => new Socket());
    for (const socket of sockets) paced.take(socket);
    t.strictSame(begun.length, handshakesPerTurn);
    sockets[handshakesPerTurn]?.destroy();
    turns.shift()?.();
    t.equal(begun.length, 2 * handshakesPerTurn);
    const late = new Socket();
    paced.take(late);
    turns.shift()?.();
    turns.shift()?.();
    t.equal(turns.length, 0);
    t.ok(
      begun.every((socket, place) => socket === [...sockets.toSpliced(handshakesPerTurn, 1), late][place]),
    );
    t.equal(begun.length, sockets.length);
  },
);

t.test('a newcomer does not pass those who wait', async (t) => {
  const { begun, turns, pacer: paced } = pacer();
  const sockets = Array.from({ length: handshakesPerTurn + 1 }, () => new Socket());
  for (const socket of sockets) paced.take(socket);
  const newcomer = new Socket();
  turns.shift()?.();
  paced.take(newcomer);
  t.equal(begun.at(-2), sockets.at(-1));
  t.equal(begun.at(-1), newcomer);
});
