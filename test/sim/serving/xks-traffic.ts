import type { XksErrorName } from '../../../src/xks/errors.js';
import { type AnsweredRequest, type Answerer, Answers } from '../checkers/answers.js';
import { credentialSubject, type KeyLedger, keySubject, storeSubject } from '../checkers/key-ledger.js';
import { keyName, storeName } from '../keys/key-commands.js';
import type { KeyScenario } from '../keys/key-scenario.js';
import type { Random } from '../random.js';
import type { World } from '../world.js';
import type { ServingProcess } from './serving-process.js';

/** What answers were: `ok`, or the name of the error. */
export type AnswerCounts = Readonly<Partial<Record<XksErrorName | 'ok', number>>>;

/** KMS: asks any serving process for the use of any key, in the name of any credential, without knowing which are there. */
export class XksTraffic {
  readonly #world: World;
  readonly #random: Random;
  readonly #scenario: KeyScenario;
  readonly #processes: () => readonly ServingProcess[];
  readonly #accessKeyIds: (keyStore: string) => readonly string[];
  readonly #answers: Answers;
  readonly #counts: Partial<Record<XksErrorName | 'ok', number>> = {};
  #running = true;

  constructor(options: {
    readonly world: World;
    readonly random: Random;
    readonly scenario: KeyScenario;
    readonly ledger: KeyLedger;
    /** All that run. */
    readonly processes: () => readonly ServingProcess[];
    readonly accessKeyIds: (keyStore: string) => readonly string[];
  }) {
    this.#world = options.world;
    this.#random = options.random;
    this.#scenario = options.scenario;
    this.#processes = options.processes;
    this.#accessKeyIds = options.accessKeyIds;
    this.#answers = new Answers(options.world.verdict, options.ledger);
  }

  get counts(): AnswerCounts {
    return this.#counts;
  }

  start(): void {
    this.#world.after(this.#random.exponential(this.#scenario.requestMeanMs), 'kms', -1, () => {
      if (!this.#running) return;
      this.start();
      this.#ask();
    });
  }

  stop(): void {
    this.#running = false;
  }

  #ask(): void {
    const processes = this.#processes();
    if (processes.length === 0) return;
    const keyStore = storeName(this.#random.below(this.#scenario.keyStores));
    const ids = this.#accessKeyIds(keyStore);
    if (ids.length === 0) return;
    const request = {
      keyStore,
      externalKeyId: keyName(this.#random.below(this.#scenario.keys)),
      accessKeyId: this.#random.pick(ids),
    };
    this.#random.pick(processes).serve(request, (error, by) => {
      const name = error?.errorName ?? 'ok';
      this.#counts[name] = (this.#counts[name] ?? 0) + 1;
      this.#world.trace.mixText(name);
      this.#world.say(() => `${by.process} (index ${by.index}) answers ${JSON.stringify(request)}: ${name}`);
      this.#check(name, by, request);
    });
  }

  #check(name: XksErrorName | 'ok', by: Answerer, request: AnsweredRequest): void {
    const { keyStore, externalKeyId, accessKeyId } = request;
    switch (name) {
      case 'ok':
        this.#answers.succeeds(by, request);
        return;
      case 'InvalidUriPathException':
        this.#answers.unknown(by, storeSubject(keyStore));
        return;
      case 'AuthenticationFailedException':
        this.#answers.unknown(by, credentialSubject(accessKeyId));
        return;
      case 'KeyNotFoundException':
        this.#answers.unknown(by, keySubject(keyStore, externalKeyId));
        return;
      default:
        return;
    }
  }
}
