import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { systemTimers } from '../../src/base/timers.js';
import { libraryDirectory } from '../../src/demo/debian-packages.js';
import { Management } from '../../src/hsm/management.js';
import type { ManagementResult } from '../../src/hsm/management-protocol.js';
import { Pin } from '../../src/hsm/pin.js';
import { makeFaultShim } from '../support/fault-shim.js';
import { makeNssToken, type NssTestToken } from '../support/nss.js';
import { makeSoftHsmToken, type SoftHsmTestToken } from '../support/softhsm.js';

const run = promisify(execFile);

type TestToken = Pick<
  SoftHsmTestToken | NssTestToken,
  'modulePath' | 'initArgs' | 'label' | 'pin' | 'serial' | 'directory'
>;

const any = { label: null, serial: null, manufacturer: null, model: null };

function open(t: Test, token: Pick<TestToken, 'modulePath' | 'initArgs'>): Management {
  const { modulePath, initArgs } = token;
  const management = new Management({ modulePath, initArgs, timers: systemTimers });
  t.teardown(() => management.close());
  return management;
}

function value<T>(result: ManagementResult<T>): T {
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

const randomId = (): string => randomBytes(16).toString('hex');

async function loggedIn(t: Test, token: TestToken): Promise<{ management: Management; slotId: bigint }> {
  const management = open(t, token);
  const { slotId } = value(await management.discover({ ...any, label: token.label }));
  value(await management.login(slotId, new Pin(token.pin), () => {}));
  return { management, slotId };
}

const vendors: Readonly<Record<string, (t: Test) => Promise<TestToken>>> = {
  SoftHSM2: (t) => makeSoftHsmToken(t),
  'NSS softoken': (t) => makeNssToken(t),
};

for (const [vendor, makeToken] of Object.entries(vendors)) {
  t.test(vendor, async (t) => {
    const token = await makeToken(t);

    t.test('finds the token by label and by serial number', async (t) => {
      const management = open(t, token);
      const byLabel = value(await management.discover({ ...any, label: token.label }));
      t.match(byLabel, { label: token.label, serial: token.serial, slotId: BigInt });
      const byBoth = value(await management.discover({ ...any, label: token.label, serial: token.serial }));
      t.strictSame(byBoth, byLabel);
    });

    t.test('a token that is not there: what was looked for, and what there is', async (t) => {
      const answer = await open(t, token).discover({ ...any, label: 'nowhere', serial: '99' });
      t.match(answer, { ok: false, error: { code: 'token-unavailable' } });
      const message = answer.ok ? '' : answer.error.message;
      t.match(message, `no token with label "nowhere" and serial "99" in ${token.modulePath}: it has`);
      t.match(message, `"${token.label}" (serial ${token.serial}`);
    });

    t.test('a wrong PIN comes back as what the token said, without the PIN', async (t) => {
      const management = open(t, token);
      const { slotId } = value(await management.discover({ ...any, label: token.label }));
      t.match(await management.loginState(slotId), { value: { loggedIn: false, loginRequired: true } });
      const answer = await management.login(slotId, new Pin('hungry-for-more'), () => {});
      t.match(answer, { ok: false, error: { rv: 'CKR_PIN_INCORRECT', functionName: 'C_Login' } });
      t.notMatch(JSON.stringify(answer), 'hungry');
      t.match(await management.loginState(slotId), { value: { loggedIn: false } });
    });

    t.test('the login persists, and a second one is fine', async (t) => {
      const { management, slotId } = await loggedIn(t, token);
      t.match(await management.loginState(slotId), { value: { loggedIn: true } });
      t.strictSame(await management.login(slotId, new Pin(token.pin), () => {}), { ok: true, value: null });
    });

    t.test('makes AES-256 keys that never leave, and finds them by CKA_ID and by label', async (t) => {
      const { management, slotId } = await loggedIn(t, token);
      const objectId = randomId();
      const made = value(await management.generateKey(slotId, { objectId, label: 'möbius 1' }));
      t.match(made, {
        objectId,
        label: 'möbius 1',
        keyType: 'CKK_AES',
        keyBits: 256,
        usage: ['ENCRYPT', 'DECRYPT'],
        sensitive: true,
        extractable: false,
      });
      t.equal(made.usage.length, 2);
      t.strictSame(value(await management.findObject(slotId, { objectId, label: null })), made);
      t.strictSame(value(await management.findObject(slotId, { objectId: null, label: 'möbius 1' })), made);
      const { objects, truncated } = value(await management.listObjects(slotId));
      t.strictSame(
        objects.filter((object) => object.objectId === objectId),
        [made],
      );
      t.equal(truncated, false);
    });

    t.test('a key that is not there: what was looked for, and what there is', async (t) => {
      const { management, slotId } = await loggedIn(t, token);
      const objectId = randomId();
      value(await management.generateKey(slotId, { objectId, label: 'is there' }));
      const answer = await management.findObject(slotId, { objectId: null, label: 'is not' });
      t.match(answer, { ok: false, error: { code: 'object-not-found', rv: null } });
      const message = answer.ok ? '' : answer.error.message;
      t.match(message, 'no secret key with label "is not" on the token');
      t.match(message, `"is there" (CKA_ID ${objectId}`);
      const wrongPair = await management.findObject(slotId, { objectId, label: 'is not' });
      t.match(wrongPair, { ok: false, error: { code: 'object-not-found' } });
    });

    t.test('two keys with one label are refused', async (t) => {
      const { management, slotId } = await loggedIn(t, token);
      const ids = [randomId(), randomId()];
      for (const objectId of ids) value(await management.generateKey(slotId, { objectId, label: 'twin' }));
      const answer = await management.findObject(slotId, { objectId: null, label: 'twin' });
      t.match(answer, {
        ok: false,
        error: { code: 'object-ambiguous', message: /^2 secret keys with label "twin"/ },
      });
      for (const id of ids) t.match(answer.ok ? '' : answer.error.message, id);
    });

    t.test('a CKA_ID is given once', async (t) => {
      const { management, slotId } = await loggedIn(t, token);
      const objectId = randomId();
      const made = value(await management.generateKey(slotId, { objectId, label: 'first' }));
      const second = await management.generateKey(slotId, { objectId, label: 'second' });
      t.match(second, { ok: false, error: { code: 'object-ambiguous', message: objectId } });
      t.strictSame(
        value(await management.findObject(slotId, { objectId, label: null })),
        made,
        'the first is whole',
      );
    });

    t.test('the module is given back: opened again, nobody is logged in', async (t) => {
      const { management, slotId } = await loggedIn(t, token);
      await management.close();
      t.match(await management.listObjects(slotId), { ok: false, error: { code: 'token-unavailable' } });
      const again = open(t, token);
      value(await again.discover({ ...any, label: token.label }));
      t.match(await again.loginState(slotId), { value: { loggedIn: false } });
    });

    t.test('before the module is loaded', async (t) => {
      const answer = await open(t, token).listObjects(0n);
      t.match(answer, { ok: false, error: { rv: 'CKR_CRYPTOKI_NOT_INITIALIZED' } });
    });
  });
}

t.test('a module that is not there, and one that is no module: path and the loader’s reason', async (t) => {
  const missing = await open(t, { modulePath: '/nowhere/libhsm.so', initArgs: '' }).discover({
    ...any,
    label: 'a',
  });
  t.match(missing, { ok: false, error: { code: 'token-unavailable', functionName: 'dlopen' } });
  t.match(missing.ok ? '' : missing.error.message, '/nowhere/libhsm.so');
  t.match(missing.ok ? '' : missing.error.message, /No such file/);
  const noModule = await open(t, { modulePath: `${libraryDirectory}/libm.so.6`, initArgs: '' }).discover({
    ...any,
    label: 'a',
  });
  t.match(noModule.ok ? '' : noModule.error.message, /C_GetFunctionList/);
});

t.test('SoftHSM2, seen by another tool', async (t) => {
  const token = await makeSoftHsmToken(t, { label: 'cross-check' });
  const objectId = randomId();
  {
    const { management, slotId } = await loggedIn(t, token);
    value(await management.generateKey(slotId, { objectId, label: 'ours' }));
    await management.close();
  }
  const tool = (...args: readonly string[]) =>
    run('pkcs11-tool', ['--module', token.modulePath, '--token-label', token.label, ...args], {
      env: { ...process.env, ...token.env, PIN: token.pin },
    });

  t.test('a key of ours is sensitive, never extractable, has the id and the label', async (t) => {
    const { stdout } = await tool('--login', '--pin', 'env:PIN', '--list-objects', '--type', 'secrkey');
    t.match(stdout, /Secret Key Object; AES length 32/);
    t.match(stdout, /label:\s+ours/);
    t.match(stdout, new RegExp(`ID:\\s+${objectId}`));
    t.match(stdout, /Usage:\s+encrypt, decrypt\n/);
    t.match(stdout, /Access:\s+sensitive, always sensitive, never extract?able, local/);
  });

  t.test('two keys with one CKA_ID, made by others, are refused', async (t) => {
    const id = randomId();
    for (const label of ['one', 'two']) {
      await tool(
        '--login',
        '--pin',
        'env:PIN',
        '--keygen',
        '--key-type',
        'AES:32',
        '--id',
        id,
        '--label',
        label,
      );
    }
    const { management, slotId } = await loggedIn(t, token);
    const answer = await management.findObject(slotId, { objectId: id, label: null });
    t.match(answer, { ok: false, error: { code: 'object-ambiguous', message: /give each its own CKA_ID/ } });
    t.match(answer.ok ? '' : answer.error.message, /"one".*"two"|"two".*"one"/);
    value(await management.findObject(slotId, { objectId: id, label: 'two' }));
  });

  t.test('a key without a CKA_ID cannot be pinned', async (t) => {
    await tool('--login', '--pin', 'env:PIN', '--keygen', '--key-type', 'AES:16', '--label', 'nameless');
    const { management, slotId } = await loggedIn(t, token);
    const answer = await management.findObject(slotId, { objectId: null, label: 'nameless' });
    t.match(answer, { ok: false, error: { code: 'object-unsuitable', message: /no CKA_ID/ } });
    const listed = value(await management.listObjects(slotId)).objects.find(
      ({ label }) => label === 'nameless',
    );
    t.match(listed, { objectId: '', keyBits: 128 });
  });

  t.test('two tokens with one label are refused, and told apart by serial number', async (t) => {
    const init = [
      '--init-token',
      '--free',
      '--label',
      token.label,
      '--pin',
      token.pin,
      '--so-pin',
      token.soPin,
    ];
    await run('softhsm2-util', init, { env: { ...process.env, ...token.env } });
    const management = open(t, token);
    const answer = await management.discover({ ...any, label: token.label });
    t.match(answer, {
      ok: false,
      error: { message: /^2 tokens with label "cross-check".*add serial=… to the URI/ },
    });
    t.match(answer.ok ? '' : answer.error.message, token.serial);
    const one = value(await management.discover({ ...any, label: token.label, serial: token.serial }));
    t.equal(one.serial, token.serial);
  });
});

t.test(
  'a call that does not return: said so after its time, and nothing more is asked of the token',
  async (t) => {
    const token = await makeSoftHsmToken(t, { label: 'slow' });
    const waits: { readonly delayMs: number; readonly run: () => void }[] = [];
    const management = new Management({
      modulePath: token.modulePath,
      initArgs: '',
      timers: {
        after: (delayMs, run) => {
          waits.push({ delayMs, run });
          return () => {};
        },
      },
    });
    t.teardown(() => management.close());
    const discovering = management.discover({ ...any, label: 'slow' });
    waits[0]?.run();
    t.match(await discovering, {
      ok: false,
      error: { code: 'token-unavailable', message: /discover has not returned/ },
    });
    t.not(management.stuck, null);
    t.match(await management.loginState(0n), {
      ok: false,
      error: { message: /an earlier discover has not returned/ },
    });
  },
);

t.test('a module that hangs in C_Initialize keeps nobody from another one', async (t) => {
  const token = await makeSoftHsmToken(t);
  const shim = await makeFaultShim(t, token.modulePath);
  shim.setFaults('C_Initialize hang');
  const hung = shim.nextHang();
  const hanging = open(t, { ...token, modulePath: shim.modulePath });
  const discovered = hanging.discover({ ...any, label: token.label });
  const call = await hung;
  t.equal(call.functionName, 'C_Initialize');
  const well = value(await open(t, token).discover({ ...any, label: token.label }));
  t.equal(well.serial, token.serial);
  call.release();
  t.match(await discovered, { ok: true });
});
