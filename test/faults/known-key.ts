import { randomBytes } from 'node:crypto';
import pkcs11js from 'pkcs11js';
import { knownAesKey } from '../support/known-aes-key.js';

/** One AES-256 key with known bytes, on as many tokens as want it, put there and taken away past the node. */
export class KnownKey {
  readonly bytes = randomBytes(32);
  /** CKA_ID. */
  readonly id = randomBytes(16);
  readonly #module = new pkcs11js.PKCS11();
  readonly #pin: string;
  readonly #sessions = new Map<string, pkcs11js.Handle>();

  /** `modulePath`: SoftHSM2's; reads SOFTHSM2_CONF of this process. */
  constructor(modulePath: string, pin: string) {
    this.#pin = pin;
    this.#module.load(modulePath);
    this.#module.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
  }

  create(tokenLabel: string): void {
    const template = knownAesKey(this.id.toString('hex'), 'customer', this.bytes);
    this.#module.C_CreateObject(this.#session(tokenLabel), template);
  }

  delete(tokenLabel: string): void {
    const session = this.#session(tokenLabel);
    this.#module.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_ID, value: this.id }]);
    const found = this.#module.C_FindObjects(session, 1);
    this.#module.C_FindObjectsFinal(session);
    for (const object of found) this.#module.C_DestroyObject(session, object);
  }

  close(): void {
    this.#module.C_Finalize();
    this.#module.close();
  }

  #session(tokenLabel: string): pkcs11js.Handle {
    const open = this.#sessions.get(tokenLabel);
    if (open !== undefined) return open;
    const slot = this.#module
      .C_GetSlotList(true)
      .find((candidate) => this.#module.C_GetTokenInfo(candidate).label.trim() === tokenLabel);
    if (slot === undefined) throw new Error(`there is no token ${tokenLabel}`);
    const session = this.#module.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
    this.#module.C_Login(session, pkcs11js.CKU_USER, this.#pin);
    this.#sessions.set(tokenLabel, session);
    return session;
  }
}
