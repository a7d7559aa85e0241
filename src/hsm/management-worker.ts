import { workerData } from 'piscina';
import pkcs11js from 'pkcs11js';
import { errorText, unreachable } from '../base/guards.js';
import { loadNativeBinding, nativeAddonPath } from '../base/native.js';
import { err, ok } from '../base/result.js';
import type {
  DiscoveredToken,
  LoginState,
  ManagementError,
  ManagementResult,
  ManagementTask,
  ManagementValues,
  ManagementWorkerData,
  ObjectDescription,
  ObjectListing,
} from './management-protocol.js';
import { describeObject } from './object-description.js';
import { call, findObjects, type ObjectHandle, Pkcs11CallError, readAttribute } from './pkcs11-session.js';
import type { TokenSelector } from './pkcs11-uri.js';
import { chooseToken, type SlotContent } from './token-choice.js';

/**
 * The management worker: pkcs11js blocks the thread that calls it, so it has one of its own. State is this thread's:
 * the module, and the session that keeps the process logged in.
 */

/** More objects than an operator reads; bounds the answer. */
const objectsListedMax = 1_000;
/** How many of the objects there are an error names. */
const objectsNamedMax = 10;

// PKCS#11 §5.6.5; pkcs11js has no names for session states.
const cksRoUserFunctions = 1;
const cksRwUserFunctions = 3;

const native = loadNativeBinding();

class Management {
  readonly #data: ManagementWorkerData;
  #module: pkcs11js.PKCS11 | null = null;
  #session: { readonly slotId: bigint; readonly handle: pkcs11js.Handle } | null = null;

  constructor(data: ManagementWorkerData) {
    this.#data = data;
  }

  run(task: ManagementTask): ManagementResult<ManagementValues[ManagementTask['op']]> {
    switch (task.op) {
      case 'discover':
        return this.#discover(task.token);
      case 'login-state':
        return ok(this.#loginState(task.slotId));
      case 'login':
        this.#login(task.slotId, task.pin);
        return ok(null);
      case 'list-objects':
        return ok(this.#listObjects(task.slotId));
      case 'find-object':
        return this.#findObject(task.slotId, task.objectId, task.label);
      case 'generate-key':
        return this.#generateKey(task.slotId, task.objectId, task.label);
      case 'release':
        this.#release();
        return ok(null);
      default:
        return unreachable(task);
    }
  }

  #discover(selector: TokenSelector): ManagementResult<DiscoveredToken> {
    const { modulePath } = this.#data;
    const loaded = this.#load();
    if (!loaded.ok) return loaded;
    const module = loaded.value;
    const slots = call('C_GetSlotList', () => module.C_GetSlotList(true)).map((slot) =>
      inspectSlot(module, slot),
    );
    const token = chooseToken(selector, slots, modulePath);
    return token.ok ? token : failure('token-unavailable', token.error);
  }

  /**
   * The addon loads and initialises the module: it binds the module to its own symbols (hsm.md), and it counts who
   * uses it, so that nobody's C_Finalize ends another's sessions. (pkcs11js would also cut off the last character of
   * `initArgs`.) pkcs11js then opens the same path and finds it initialised.
   */
  #load(): ManagementResult<pkcs11js.PKCS11> {
    if (this.#module !== null) return ok(this.#module);
    const { modulePath, initArgs } = this.#data;
    const loaded = native.loadPkcs11Module(modulePath, initArgs);
    if (loaded.rv !== 'CKR_OK') {
      const why = loaded.message ?? `${loaded.functionName ?? 'loading'} returned ${loaded.rv}`;
      return err({
        code: 'token-unavailable',
        rv: loaded.rv,
        functionName: loaded.functionName,
        message: `cannot load the PKCS#11 module ${modulePath}: ${why}`,
      });
    }
    const module = new pkcs11js.PKCS11();
    // What is loaded there passes each call on to the module, and has it traced.
    module.load(native.offerTracedPkcs11Module(modulePath) ? nativeAddonPath : modulePath);
    this.#module = module;
    return ok(module);
  }

  #loginState(slotId: bigint): LoginState {
    const module = this.#loaded();
    const session = this.#openSession(slotId);
    const { state } = call('C_GetSessionInfo', () => module.C_GetSessionInfo(session));
    const { flags } = call('C_GetTokenInfo', () => module.C_GetTokenInfo(slotHandle(slotId)));
    return {
      loggedIn: state === cksRoUserFunctions || state === cksRwUserFunctions,
      loginRequired: (flags & pkcs11js.CKF_LOGIN_REQUIRED) !== 0,
      pinInitialised: (flags & pkcs11js.CKF_USER_PIN_INITIALIZED) !== 0,
      finalTry: (flags & pkcs11js.CKF_USER_PIN_FINAL_TRY) !== 0,
      locked: (flags & pkcs11js.CKF_USER_PIN_LOCKED) !== 0,
    };
  }

  #login(slotId: bigint, pin: string): void {
    const module = this.#loaded();
    const session = this.#openSession(slotId);
    try {
      call('C_Login', () => module.C_Login(session, pkcs11js.CKU_USER, pin));
    } catch (error) {
      // The login is the process's, not the session's (PKCS#11 §5.6): another session of ours did it.
      if (!(error instanceof Pkcs11CallError) || error.rv !== 'CKR_USER_ALREADY_LOGGED_IN') throw error;
    }
  }

  #listObjects(slotId: bigint): ObjectListing {
    const module = this.#loaded();
    const session = this.#openSession(slotId);
    const handles = findObjects(module, session, secretKeys(), objectsListedMax + 1);
    return {
      objects: handles.slice(0, objectsListedMax).map((handle) => this.#describe(session, handle)),
      truncated: handles.length > objectsListedMax,
    };
  }

  #findObject(
    slotId: bigint,
    objectId: string | null,
    label: string | null,
  ): ManagementResult<ObjectDescription> {
    const module = this.#loaded();
    const session = this.#openSession(slotId);
    const template = secretKeys();
    if (objectId !== null) template.push({ type: pkcs11js.CKA_ID, value: Buffer.from(objectId, 'hex') });
    if (label !== null) template.push({ type: pkcs11js.CKA_LABEL, value: Buffer.from(label, 'utf8') });
    const wanted = [
      ...(objectId === null ? [] : [`CKA_ID ${objectId}`]),
      ...(label === null ? [] : [`label "${label}"`]),
    ].join(' and ');
    const handles = findObjects(module, session, template, objectsNamedMax);
    const [handle, second] = handles;
    if (handle === undefined) {
      const there = findObjects(module, session, secretKeys(), objectsNamedMax + 1);
      const named = there
        .slice(0, objectsNamedMax)
        .map((other) => nameObject(this.#describe(session, other)));
      const list =
        named.length === 0
          ? 'it has no secret keys that this login sees'
          : `it has ${named.join('; ')}${there.length > objectsNamedMax ? '; and more' : ''}`;
      return failure('object-not-found', `no secret key with ${wanted} on the token: ${list}`);
    }
    if (second !== undefined) {
      const named = handles.map((other) => nameObject(this.#describe(session, other))).join('; ');
      return failure(
        'object-ambiguous',
        `${handles.length === objectsNamedMax ? `${objectsNamedMax} or more` : handles.length} secret keys with ${wanted} on the token: ${named}; ` +
          (objectId === null ? 'name it by its CKA_ID' : 'give each its own CKA_ID'),
      );
    }
    const object = this.#describe(session, handle);
    return object.objectId === ''
      ? failure(
          'object-unsuitable',
          `the secret key with ${wanted} has no CKA_ID to know it by; set one, e.g. with pkcs11-tool --set-id`,
        )
      : ok(object);
  }

  #generateKey(slotId: bigint, objectId: string, label: string): ManagementResult<ObjectDescription> {
    const module = this.#loaded();
    const session = this.#openSession(slotId);
    const id = Buffer.from(objectId, 'hex');
    // NSS softoken replaces a key that has the same CKA_ID, without a word.
    const template = [...secretKeys(), { type: pkcs11js.CKA_ID, value: id }];
    if (findObjects(module, session, template, 1).length > 0) {
      return failure('object-ambiguous', `the token has a secret key with CKA_ID ${objectId} already`);
    }
    const handle = call('C_GenerateKey', () =>
      module.C_GenerateKey(session, { mechanism: pkcs11js.CKM_AES_KEY_GEN }, [
        { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
        { type: pkcs11js.CKA_KEY_TYPE, value: pkcs11js.CKK_AES },
        { type: pkcs11js.CKA_VALUE_LEN, value: 32 },
        { type: pkcs11js.CKA_ID, value: id },
        { type: pkcs11js.CKA_LABEL, value: Buffer.from(label, 'utf8') },
        { type: pkcs11js.CKA_TOKEN, value: true },
        { type: pkcs11js.CKA_PRIVATE, value: true },
        { type: pkcs11js.CKA_SENSITIVE, value: true },
        { type: pkcs11js.CKA_EXTRACTABLE, value: false },
        { type: pkcs11js.CKA_ENCRYPT, value: true },
        { type: pkcs11js.CKA_DECRYPT, value: true },
        // Defaults differ between tokens; a key that wraps others is more than XKS needs.
        { type: pkcs11js.CKA_WRAP, value: false },
        { type: pkcs11js.CKA_UNWRAP, value: false },
        { type: pkcs11js.CKA_SIGN, value: false },
        { type: pkcs11js.CKA_VERIFY, value: false },
        { type: pkcs11js.CKA_DERIVE, value: false },
      ]),
    );
    // A token may ignore what it was asked for; what it says of the key is what counts.
    const object = this.#describe(session, handle);
    return object.objectId === objectId && object.sensitive === true && object.extractable === false
      ? ok(object)
      : failure(
          'object-unsuitable',
          `the token made a key that is not what was asked for: ${nameObject(object)}, sensitive ${object.sensitive}, ` +
            `extractable ${object.extractable}; it is left on the token, unused`,
        );
  }

  #release(): void {
    const module = this.#module;
    if (module === null) return;
    this.#closeSession();
    module.close();
    this.#module = null;
    native.releasePkcs11Module(this.#data.modulePath);
  }

  #loaded(): pkcs11js.PKCS11 {
    if (this.#module === null) throw new Pkcs11CallError('CKR_CRYPTOKI_NOT_INITIALIZED', 'C_Initialize');
    return this.#module;
  }

  /** The one session, opened again when the token forgot it. */
  #openSession(slotId: bigint): pkcs11js.Handle {
    const module = this.#loaded();
    const open = this.#session;
    if (open !== null) {
      if (open.slotId === slotId) {
        try {
          call('C_GetSessionInfo', () => module.C_GetSessionInfo(open.handle));
          return open.handle;
        } catch (error) {
          if (!(error instanceof Pkcs11CallError)) throw error;
        }
      }
      this.#closeSession();
    }
    const handle = this.#openSessionOn(module, slotId);
    this.#session = { slotId, handle };
    return handle;
  }

  #openSessionOn(module: pkcs11js.PKCS11, slotId: bigint): pkcs11js.Handle {
    const flags = pkcs11js.CKF_SERIAL_SESSION;
    try {
      return call('C_OpenSession', () =>
        module.C_OpenSession(slotHandle(slotId), flags | pkcs11js.CKF_RW_SESSION),
      );
    } catch (error) {
      // Good enough for all but making keys.
      if (!(error instanceof Pkcs11CallError) || error.rv !== 'CKR_TOKEN_WRITE_PROTECTED') throw error;
      return call('C_OpenSession', () => module.C_OpenSession(slotHandle(slotId), flags));
    }
  }

  #closeSession(): void {
    const { handle } = this.#session ?? {};
    this.#session = null;
    if (handle === undefined) return;
    try {
      call('C_CloseSession', () => this.#module?.C_CloseSession(handle));
    } catch (error) {
      // It is gone already; that is what was wanted.
      if (!(error instanceof Pkcs11CallError)) throw error;
    }
  }

  #describe(session: pkcs11js.Handle, object: ObjectHandle): ObjectDescription {
    const module = this.#loaded();
    return describeObject((attribute) => readAttribute(module, session, object, attribute));
  }
}

function inspectSlot(module: pkcs11js.PKCS11, slot: pkcs11js.Handle): SlotContent {
  const slotId = slot.readBigUInt64LE();
  try {
    const info = call('C_GetTokenInfo', () => module.C_GetTokenInfo(slot));
    if ((info.flags & pkcs11js.CKF_TOKEN_INITIALIZED) === 0) return { kind: 'uninitialised', slotId };
    return {
      kind: 'token',
      token: {
        slotId,
        label: trimPadding(info.label),
        serial: trimPadding(info.serialNumber),
        manufacturer: trimPadding(info.manufacturerID),
        model: trimPadding(info.model),
        firmware: `${info.firmwareVersion.major}.${info.firmwareVersion.minor}`,
      },
    };
  } catch (error) {
    if (!(error instanceof Pkcs11CallError)) throw error;
    return { kind: 'unreadable', slotId, rv: error.rv };
  }
}

/** PKCS#11 pads with blanks; some modules with NULs. */
function trimPadding(text: string): string {
  return text.replace(/[\0 ]+$/, '');
}

function slotHandle(slotId: bigint): pkcs11js.Handle {
  const handle = Buffer.alloc(8);
  handle.writeBigUInt64LE(slotId);
  return handle;
}

function secretKeys(): pkcs11js.Template {
  return [
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
    { type: pkcs11js.CKA_TOKEN, value: true },
  ];
}

function nameObject(object: ObjectDescription): string {
  return `"${object.label}" (CKA_ID ${object.objectId === '' ? 'none' : object.objectId}, ${object.keyType} ${object.keyBits ?? '?'})`;
}

function failure(code: ManagementError['code'], message: string): ManagementResult<never> {
  return err({ code, rv: null, functionName: null, message });
}

const management = new Management(workerData as ManagementWorkerData);

/** The task handler. Never rejects: an `Error` would lose its fields between the threads. */
export function handle(task: ManagementTask): ManagementResult<ManagementValues[ManagementTask['op']]> {
  try {
    return management.run(task);
  } catch (error) {
    if (error instanceof Pkcs11CallError) {
      return err({ code: 'failed', rv: error.rv, functionName: error.functionName, message: error.message });
    }
    return failure('failed', `${task.op}: ${errorText(error)}`);
  }
}
