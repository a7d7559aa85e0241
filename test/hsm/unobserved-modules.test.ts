import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { tracePkcs11Calls } from '../../src/hsm/pkcs11-trace.js';
import { CapturedLogger } from '../support/captured-logger.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { makeSoftHsmToken } from '../support/softhsm.js';
import { VirtualTime } from '../support/virtual-time.js';

/** Alone in its process: modules stay wrapped as long as it lives. */

/** As `kObservedModulesMax` has it. */
const observedMax = 12;

t.test(
  'a module beyond those that a trace can follow works, and the log says that it is missing',
  async (t) => {
    const native = loadNativeBinding();
    const softHsm = await makeSoftHsmToken(t);
    const shim = await makeFaultShim(t, softHsm.modulePath);
    const directory = t.testdir();
    const logger = new CapturedLogger();
    const trace = tracePkcs11Calls(native, new VirtualTime(), logger);
    const missing = () => {
      trace.flush();
      return logger.last('PKCS#11 modules are missing from the trace: there are more than it can follow');
    };
    const load = (place: number): void => {
      const path = join(directory, `module-${place}.so`);
      copyFileSync(shim.modulePath, path);
      copyFileSync(`${shim.modulePath}.module`, `${path}.module`);
      t.equal(native.loadPkcs11Module(path, '').rv, 'CKR_OK');
      t.teardown(() => native.releasePkcs11Module(path));
    };
    for (let place = 0; place < observedMax; place += 1) load(place);
    t.equal(missing(), undefined);
    load(observedMax);
    t.match(missing(), { modules: 1 });
  },
);
