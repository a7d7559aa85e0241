import { constants } from 'node:os';
import t from 'tap';
import { createServiceNotifier } from '../../src/ops/notify.js';

const { errno } = constants;

/** systemd's socket, which takes a message or answers with the errno that the test sets. */
function socket() {
  const received: string[] = [];
  return {
    received,
    answer: 0,
    sdNotify(path: string, message: string): number {
      if (this.answer === 0) received.push(`${path} ${message}`);
      return this.answer;
    },
  };
}

t.test('outside systemd nothing is sent', async (t) => {
  const native = socket();
  const notifier = createServiceNotifier(native, {});
  notifier.ready('up');
  notifier.status('fine');
  notifier.watchdog();
  notifier.stopping('draining');
  t.same(native.received, []);
  t.equal(notifier.watchdogIntervalMs, null);
});

t.test('messages are as sd_notify(3) has them', async (t) => {
  const native = socket();
  const notifier = createServiceNotifier(native, { NOTIFY_SOCKET: '/run/n' });
  notifier.ready('2 of 2 ready');
  notifier.status('two\nlines');
  notifier.watchdog();
  notifier.stopping('draining');
  t.same(native.received, [
    '/run/n READY=1\nSTATUS=2 of 2 ready',
    '/run/n STATUS=two lines',
    '/run/n WATCHDOG=1',
    '/run/n STOPPING=1\nSTATUS=draining',
  ]);
});

t.test('READY and STOPPING are not lost when systemd is slow, and keep their order', async (t) => {
  const native = socket();
  const notifier = createServiceNotifier(native, { NOTIFY_SOCKET: '@n' });
  native.answer = errno.EAGAIN;
  notifier.ready('up');
  notifier.status('lost');
  notifier.stopping('draining');
  native.answer = 0;
  notifier.watchdog();
  t.same(native.received, ['@n READY=1\nSTATUS=up', '@n STOPPING=1\nSTATUS=draining', '@n WATCHDOG=1']);
});

t.test('a socket that is gone is not tried for ever', async (t) => {
  const native = socket();
  const notifier = createServiceNotifier(native, { NOTIFY_SOCKET: '/gone' });
  native.answer = errno.ECONNREFUSED;
  notifier.ready('up');
  native.answer = 0;
  notifier.watchdog();
  t.same(native.received, ['/gone WATCHDOG=1']);
});

t.test('the watchdog wants to be fed twice in its time, by the process it watches', async (t) => {
  const interval = (environment: Parameters<typeof createServiceNotifier>[1]): number | null =>
    createServiceNotifier(socket(), environment, 42).watchdogIntervalMs;
  t.equal(interval({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '15000000' }), 7_500);
  t.equal(interval({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '15000000', WATCHDOG_PID: '42' }), 7_500);
  t.equal(interval({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: '15000000', WATCHDOG_PID: '43' }), null);
  t.equal(interval({ NOTIFY_SOCKET: '/n' }), null);
  t.equal(interval({ NOTIFY_SOCKET: '/n', WATCHDOG_USEC: 'soon' }), null);
  t.equal(interval({ WATCHDOG_USEC: '15000000' }), null);
});
