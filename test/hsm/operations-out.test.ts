import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { loadNativeBinding, type NativeBinding } from '../../src/base/native.js';
import { Cells } from '../../src/hsm/cells.js';
import { CiphertextDoubt } from '../../src/hsm/ciphertext-doubt.js';
import { failed } from '../../src/hsm/hsm-failure.js';
import { OperationsOut } from '../../src/hsm/operations-out.js';
import { ServiceTime } from '../../src/hsm/service-time.js';

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
    serviceTime.measured({
      result: 'ok',
      isTrial: false,
      rv: 0,
      functionIndex: 0,
      loginLost: false,
      micros: 500_000,
      roundTrips: 4,
      encryptions: 1,
      refusals: 0,
      spurious: false,
      doubted: false,
    });
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
