import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding, type NativeBinding } from '../../src/base/native.js';
import { type CellOutcome, Cells } from '../../src/hsm/cells.js';
import { CiphertextDoubt } from '../../src/hsm/ciphertext-doubt.js';
import { failed } from '../../src/hsm/hsm-failure.js';
import { OperationsOut } from '../../src/hsm/operations-out.js';
import { ServiceTime } from '../../src/hsm/service-time.js';

const tookMicros = (micros: number): CellOutcome => ({
  result: 'ok',
  isTrial: false,
  rv: 0,
  functionIndex: 0,
  loginLost: false,
  micros,
  roundTrips: 4,
  encryptions: 1,
  refusals: 0,
  spurious: false,
  doubted: false,
});

t.test(
  'one that has nothing before it may always measure the token anew, and asks native code for nothing',
  async (t) => {
    const native = loadNativeBinding();
    let lanesAsked = 0;
    const binding: NativeBinding = {
      ...native,
      openPkcs11OperationQueue: (options) => {
        const queue = native.openPkcs11OperationQueue(options);
        const lanes = (): number => {
          lanesAsked += 1;
          return queue.lanes();
        };
        return { ...queue, lanes };
      },
    };
    const cells = new Cells();
    const serviceTime = new ServiceTime();
    const out = new OperationsOut({
      binding,
      cells,
      serviceTime,
      doubt: new CiphertextDoubt(0),
      clock: systemClock,
      lanesMin: 1,
      lanesMax: 2,
      onSubmitted: () => {},
      onOutcome: () => {},
    });
    t.teardown(() => out.queue.close());
    serviceTime.measured(tookMicros(500_000));
    t.ok(out.hasRoom(1), 'however long it took before');
    t.equal(lanesAsked, 0);

    const cell = cells.putProbe();
    if (cell === null) throw new Error('no cell');
    const waiting = out.submit(cell, systemClock.monotonicMs() + 30_000, null, () => undefined);
    t.notOk(out.hasRoom(1), 'behind one that waits');
    t.not(lanesAsked, 0);
    out.end(failed('token-unavailable'));
    t.equal(out.outstanding, 0);
    t.match(await waiting, { error: { kind: 'token-unavailable' } });
  },
);

t.test(
  'a burst on a slow token that has one session has room for each that another can be opened for',
  async (t) => {
    const lanesMax = 10;
    const native = loadNativeBinding();
    const cells = new Cells();
    const serviceTime = new ServiceTime();
    let open = 1;
    const out = new OperationsOut({
      binding: {
        ...native,
        openPkcs11OperationQueue: (options) => ({
          ...native.openPkcs11OperationQueue(options),
          lanes: () => open,
        }),
      },
      cells,
      serviceTime,
      doubt: new CiphertextDoubt(0),
      clock: systemClock,
      lanesMin: 1,
      lanesMax,
      onSubmitted: () => {},
      onOutcome: () => {},
    });
    t.teardown(() => out.queue.close());
    serviceTime.measured(tookMicros(20_000));
    const submit = (): void => {
      const cell = cells.putProbe();
      if (cell === null) throw new Error('no cell');
      void out.submit(cell, systemClock.monotonicMs() + 30_000, null, () => undefined);
    };
    for (let arrived = 0; arrived < lanesMax; arrived++) {
      t.ok(out.hasRoom(30), `${arrived} before it`);
      submit();
    }
    await new Promise(setImmediate);
    t.notOk(out.hasRoom(30), 'offered to the token, which opened no other session');
    open = lanesMax;
    t.ok(out.hasRoom(50), 'it has as many as there can be');
    out.end(failed('token-unavailable'));
  },
);
