import type { Logger } from '../base/logger.js';
import { type IvBudget, type IvLevel, ivLevelOf, ivLimits } from '../keystate/iv-budget.js';
import type { KeyStateQueries } from '../keystate/types.js';

/** A key version of which half of all random IVs or more are counted. */
export interface SpentKey {
  readonly keyStore: string;
  readonly externalKeyId: string;
  readonly version: number;
  readonly level: Exclude<IvLevel, 'ok'>;
  readonly reserved: number;
  /** Of the budget; above 1 where it is exhausted. */
  readonly fraction: number;
  readonly rule: IvBudget['rule'];
}

export interface IvWatchOptions {
  readonly state: () => KeyStateQueries;
  readonly logger: Logger;
  /** Encryptions under one object; only tests know another number. */
  readonly encryptionsMax?: number;
}

const rank = { ok: 0, warning: 1, critical: 2, exhausted: 3 } as const;

/** Looks at all budgets from time to time: says once what has become used up, and keeps what metrics and status show. */
export class IvWatch {
  readonly #options: IvWatchOptions;
  readonly encryptionsMax: number;
  /** By object: what has been said. */
  readonly #said = new Map<string, IvLevel>();
  #highest: ReadonlyMap<string, number> = new Map();
  #spent: readonly SpentKey[] = [];

  constructor(options: IvWatchOptions) {
    this.#options = options;
    this.encryptionsMax = options.encryptionsMax ?? ivLimits.encryptionsMax;
  }

  /** By key store: the part used up of that key version of which most is. */
  get highest(): ReadonlyMap<string, number> {
    return this.#highest;
  }

  /** The most used first. */
  get spent(): readonly SpentKey[] {
    return this.#spent;
  }

  /** A hundred thousand budgets take some milliseconds: not for every change. */
  look(): void {
    const state = this.#options.state();
    const highest = new Map<string, number>();
    const spent: SpentKey[] = [];
    for (const budget of state.ivBudgets()) {
      const fraction = budget.reserved / this.encryptionsMax;
      const key = state.keyOfObject(budget.objectId);
      if (key === null) continue;
      const { keyStore, externalKeyId } = key;
      if (fraction > (highest.get(keyStore) ?? 0)) highest.set(keyStore, fraction);
      const level = ivLevelOf(fraction);
      if (level === 'ok') continue;
      const version = key.versions.find(({ objectId }) => objectId === budget.objectId)?.version ?? 0;
      const { reserved, rule } = budget;
      const one = { keyStore, externalKeyId, version, level, reserved, fraction, rule };
      spent.push(one);
      this.#say(budget.objectId, one);
    }
    this.#highest = highest;
    this.#spent = spent.sort((left, right) => right.fraction - left.fraction);
  }

  #say(objectId: string, { level, fraction, reserved, ...key }: SpentKey): void {
    if (rank[level] <= rank[this.#said.get(objectId) ?? 'ok']) return;
    this.#said.set(objectId, level);
    const fields = { ...key, reserved, percent: Math.floor(fraction * 100) };
    const { logger } = this.#options;
    if (level === 'warning') logger.warn('half of the random IVs of a key version are used up', fields);
    else if (level === 'critical')
      logger.error('nine tenths of the random IVs of a key version are used up', fields);
    else if (key.rule === 'continue')
      logger.error('a key version encrypts beyond its random IVs, as it was told to', fields);
    else logger.error('the random IVs of a key version are used up: it only decrypts', fields);
  }
}

/** What `xksctl status` says of them: from nine tenths on, where somebody has to do something. */
export function ivFindings(spent: readonly SpentKey[]): readonly string[] {
  const urgent = spent.filter(({ level }) => level !== 'warning');
  const named = urgent.slice(0, findingsMax).map(({ keyStore, externalKeyId, level, fraction, rule }) => {
    const percent = Math.floor(fraction * 100);
    if (level !== 'exhausted')
      return `key ${keyStore}/${externalKeyId} has used ${percent} % of its random IVs`;
    const state = rule === 'continue' ? 'encrypts beyond its' : 'only decrypts: it has used up its';
    return `key ${keyStore}/${externalKeyId} ${state} random IVs (${percent} %)`;
  });
  const rest = urgent.length - named.length;
  return rest > 0 ? [...named, `${rest} more keys have used 90 % of their random IVs`] : named;
}

const findingsMax = 5;
