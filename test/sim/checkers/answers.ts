import { credentialSubject, type KeyLedger, keySubject, type Subject, storeSubject } from './key-ledger.js';
import type { Verdict } from './verdict.js';

/** As the contract has it (replication.md, _A stale node must not lie_). */
const unknownTrustedForMs = 2_000;

/** What a serving process answers, and by what it knows. */
export interface Answerer {
  /** For people. */
  readonly process: string;
  /** Last index that it has applied. */
  readonly index: number;
  /** The greatest that it has told its replica to have applied. */
  readonly acknowledgedIndex: number;
  /** How much its own clock has gone on since a moment in true time. */
  readonly elapsedMs: (sinceTrueMs: number) => number;
}

export interface AnsweredRequest {
  readonly keyStore: string;
  readonly externalKeyId: string;
  readonly accessKeyId: string;
}

/** The kill switch contract, and what a stale node may say: checked for each answer, at the moment at which it leaves. */
export class Answers {
  readonly #verdict: Verdict;
  readonly #ledger: KeyLedger;

  constructor(verdict: Verdict, ledger: KeyLedger) {
    this.#verdict = verdict;
    this.#ledger = ledger;
  }

  /** An answer made with the key leaves. */
  succeeds(
    { process, index, acknowledgedIndex, elapsedMs }: Answerer,
    { keyStore, externalKeyId, accessKeyId }: AnsweredRequest,
  ): void {
    if (acknowledgedIndex > index) {
      this.#verdict.broken(
        'acknowledged is in force',
        `${process} has acknowledged index ${acknowledgedIndex} and answers by that of ${index}`,
      );
    }
    const rule = this.#ledger.ruleAt(keyStore, index);
    const subjects = [
      storeSubject(keyStore),
      keySubject(keyStore, externalKeyId),
      credentialSubject(accessKeyId),
    ];
    for (const subject of subjects) {
      if (this.#ledger.grantedAt(subject, index) !== true) {
        this.#verdict.broken(
          'denied is denied',
          `${process} uses ${subject}, which its own state (index ${index}) denies`,
        );
      }
      // Under `serve` an isolated node goes on for as long as it is isolated.
      if (rule.rule === 'serve') continue;
      const deniedMs = this.#ledger.deniedSince(subject, index);
      if (deniedMs === null || elapsedMs(deniedMs) <= rule.boundMs) continue;
      this.#verdict.broken(
        'kill-switch bound',
        `${process} (index ${index}) uses ${subject} ${elapsedMs(deniedMs).toFixed(0)} ms by its clock after the denial was acknowledged; D is ${rule.boundMs} ms`,
      );
    }
  }

  /** It answers that there is no such thing: 401 or 404. */
  unknown({ process, index, elapsedMs }: Answerer, subject: Subject): void {
    const changes = this.#ledger.changes(subject);
    const [created] = changes;
    if (created === undefined) return;
    // One that was retired is unknown for good; of who knows of that nothing is promised.
    if (subject.startsWith('credential/') && changes.some(({ granted }) => !granted)) return;
    if (created.index <= index) {
      this.#verdict.broken(
        'a stale node does not lie',
        `${process} denies that there is ${subject}, which its own state (index ${index}) has`,
      );
    }
    if (elapsedMs(created.acknowledgedMs) > unknownTrustedForMs) {
      this.#verdict.broken(
        'a stale node does not lie',
        `${process} (index ${index}) denies that there is ${subject} ${elapsedMs(created.acknowledgedMs).toFixed(0)} ms by its clock after its creation (${created.index}) was acknowledged`,
      );
    }
  }
}
