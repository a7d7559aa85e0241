import { once } from 'node:events';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { ArrivalClock } from '../../src/serving/http/arrival-clock.js';
import { openTls } from '../support/raw-http.js';
import { startServer } from '../support/xks-server.js';

/** An event loop that turns when told to. */
class Loop {
  nowMs = 1_000;
  #timer: (() => void) | null = null;
  #immediates: (() => void)[] = [];
  readonly clock = new ArrivalClock(
    { monotonicMs: () => this.nowMs, wallMs: () => 0 },
    {
      after: (_delayMs, run) => {
        this.#timer = run;
        return () => {
          this.#timer = null;
        };
      },
    },
    (run) => this.#immediates.push(run),
  );

  get ticking(): boolean {
    return this.#timer !== null;
  }

  timersPhase(): void {
    this.#timer?.();
  }

  checkPhase(): void {
    for (const run of this.#immediates.splice(0)) run();
  }
}

t.test('X-T5: what is read by a loop that turns arrived now', async (t) => {
  const loop = new Loop();
  t.equal(loop.clock.arrivedAtMs(), 1_000, 'also before it runs');
  loop.clock.start();
  for (let i = 0; i < 5; i += 1) {
    loop.nowMs += 4;
    t.equal(loop.clock.arrivedAtMs(), loop.nowMs);
    loop.nowMs += 6;
    loop.timersPhase();
    t.equal(loop.clock.arrivedAtMs(), loop.nowMs);
    loop.checkPhase();
  }
  loop.nowMs += 19;
  loop.timersPhase();
  t.equal(loop.clock.arrivedAtMs(), loop.nowMs, 'a little late is not late');
  loop.clock.stop();
  t.notOk(loop.ticking);
  loop.nowMs += 1_000;
  t.equal(loop.clock.arrivedAtMs(), loop.nowMs);
});

t.test('X-T5: what is read late in a long turn, or after one, has waited', async (t) => {
  const loop = new Loop();
  loop.clock.start();
  loop.nowMs += 200;
  t.equal(loop.clock.arrivedAtMs(), 1_010, 'in the turn itself');
  loop.timersPhase();
  loop.nowMs += 1;
  t.equal(loop.clock.arrivedAtMs(), 1_010, 'in the turn after it');
  loop.checkPhase();
  t.equal(loop.clock.arrivedAtMs(), loop.nowMs, 'and no longer');
  loop.nowMs += 2;
  t.equal(loop.clock.arrivedAtMs(), loop.nowMs);
});

t.test('X-T5: the time that a request waits for the process counts, over both HTTP versions', async (t) => {
  const server = await startServer(t);
  const settings = Buffer.from('000000040000000000', 'hex');
  const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]);
  // HPACK: POST, https, `/`, and an authority of one letter.
  const post2 = Buffer.concat([Buffer.from('000006010500000001', 'hex'), Buffer.from('838784410161', 'hex')]);
  const post1 = 'POST / HTTP/1.1\r\nHost: a\r\n\r\n';
  // Only a plain request, with a length, takes the express lane.
  const plain = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n';
  for (const request of [post1, plain, post2]) {
    const isHttp2 = request === post2;
    const socket = await openTls(server, isHttp2 ? { ALPNProtocols: ['h2'] } : {});
    if (isHttp2) {
      socket.write(preface);
      await once(socket, 'data');
    }
    socket.write(request);
    const busyUntilMs = systemClock.monotonicMs() + 100;
    while (systemClock.monotonicMs() < busyUntilMs) {
      // Nothing can be read meanwhile.
    }
    await once(socket, 'data');
    const [received] = server.requests.splice(0);
    t.ok(received !== undefined && received.receivedAtMs < busyUntilMs, 'it was there before');
    socket.destroy();
  }
});
