import t from 'tap';
import { loadNativeBinding } from '../../src/base/native.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { makeSoftHsmToken } from '../support/softhsm.js';

t.test('a module whose C_Finalize comes back late is of use again', async (t) => {
  const native = loadNativeBinding();
  const shim = await makeFaultShim(t, (await makeSoftHsmToken(t)).modulePath);
  const { modulePath } = shim;
  shim.setFaults('C_Finalize hang - 1');
  t.equal(native.loadPkcs11Module(modulePath, '').rv, 'CKR_OK');
  t.match(native.releasePkcs11Module(modulePath), { rv: null, message: /did not return from C_Finalize/ });
  const call = await shim.nextHang();
  t.match(native.loadPkcs11Module(modulePath, ''), { rv: null, message: /not returned from C_Finalize yet/ });
  call.release();
  while (native.loadPkcs11Module(modulePath, '').rv !== 'CKR_OK') await new Promise(setImmediate);
  t.equal(native.releasePkcs11Module(modulePath).rv, 'CKR_OK');
});
