import type { PlantedBug } from './planted-bug.js';

/** In the publication of key state, and in what serving processes make of it. */
export const servingBugs: readonly PlantedBug[] = [
  {
    name: 'freshness-kept-over-restart',
    origin: 'replication.md: freshness is never persisted; the clock of another boot says nothing',
    edits: [
      {
        file: 'serving/state-freshness',
        find: 'export class FreshnessTracker {',
        replace: 'let kept = Number.NEGATIVE_INFINITY;\nexport class FreshnessTracker {',
      },
      {
        file: 'serving/state-freshness',
        find: 'this.#bootTimeMs = bootTimeMs;',
        replace: 'this.#bootTimeMs = bootTimeMs;\n        this.#asOfMs = kept;',
      },
      {
        file: 'serving/state-freshness',
        find: 'this.#asOfMs = Math.max(this.#asOfMs, asOfMs);',
        replace: 'this.#asOfMs = Math.max(this.#asOfMs, asOfMs);\n        kept = Math.max(kept, asOfMs);',
      },
    ],
  },
  {
    name: 'freshness-overtakes-commands',
    origin: 'replication.md: it travels in the ordered stream and counts once that index is applied',
    edits: [
      {
        file: 'replica/serving-link',
        find: 'this.#queue.push(frame);',
        replace: `if (frame[4] === 10)
            this.#queue.splice(this.#queueHead, 0, frame);
        else
            this.#queue.push(frame);`,
      },
      {
        file: 'serving/state-client',
        find: 'if (this.#state.appliedIndex < fresh.index)',
        replace: 'if (false)',
      },
    ],
  },
  {
    name: 'freshness-of-its-arrival',
    origin: 'replication.md: freshAsOf is when the question was asked, on the boot clock',
    edits: [
      {
        file: 'serving/state-freshness',
        find: 'this.#asOfMs = Math.max(this.#asOfMs, asOfMs);',
        replace: 'this.#asOfMs = Math.max(this.#asOfMs, this.#bootTimeMs());',
      },
    ],
  },
  {
    name: 'age-by-the-monotonic-clock',
    origin: 'replication.md: the monotonic clock stands still while the machine is suspended',
    replaceParts: (build) => ({
      ...build,
      createFreshness: (release, _bootTimeMs, monotonicMs) => new release.FreshnessTracker(monotonicMs),
    }),
  },
  {
    name: 'isolation-only-at-admission',
    origin: 'replication.md: checked twice, at admission and right before the answer is written',
    edits: [
      {
        file: 'serving/admission',
        find: 'const fault = this.isolationFault(opened);',
        replace: 'const fault = null;',
      },
    ],
  },
  {
    name: 'key-only-looked-up-at-admission',
    origin: 'architecture.md: key state is checked again before the answer',
    edits: [
      {
        file: 'serving/key-lookup',
        find: 'export function checkStillUsable(known, keyStore, externalKeyId, used) {',
        replace: 'export function checkStillUsable(known, keyStore, externalKeyId, used) {\n    return null;',
      },
    ],
  },
  {
    name: 'stale-unknown-is-404',
    origin: 'replication.md: a stale node must not lie',
    edits: [
      {
        file: 'serving/key-lookup',
        find: '(isCurrent, definite) => isCurrent',
        replace: '(isCurrent, definite) => true',
      },
    ],
  },
  {
    name: 'snapshot-before-joining-the-set',
    origin: 'replication.md: a serving process being started joins the set before it gets its snapshot',
    edits: [
      {
        file: 'replica/serving-links',
        find: 'const link = new ServingLink(',
        replace: `const { appliedIndex: index } = this.#options.state;
        const records = [...this.#options.state.snapshot()];
        const link = new ServingLink(`,
      },
      {
        file: 'replica/serving-links',
        find: 'this.#links.add(link);',
        replace: 'this.#links.add(link);\n        link.early = { index, records };',
      },
      {
        file: 'replica/serving-links',
        find: 'link.startSnapshot(index, this.#options.state.snapshot());',
        replace: 'link.startSnapshot(link.early.index, link.early.records);',
      },
    ],
  },
  {
    name: 'restored-replica-keeps-its-links',
    origin: 'a snapshot from the leader replaces commands that serving processes never get',
    edits: [
      {
        file: 'replica/serving-links',
        find: "onRestore: () => this.#cutAll('the state was replaced by a snapshot from another node'),",
        replace: 'onRestore: () => {},',
      },
    ],
  },
  {
    name: 'freshness-not-published',
    origin: 'after healing every serving process follows its replica and is fresh',
    edits: [
      {
        file: 'replica/serving-links',
        find: 'onFresh: (asOfMs, index) => this.#publishFreshness(asOfMs, index),',
        replace: 'onFresh: () => {},',
      },
    ],
  },
  {
    name: 'unconfirmed-state-serves',
    origin: 'replication.md: it serves only once it has applied a quorum-confirmed index since it joined',
    edits: [
      {
        file: 'replica/standing',
        find: "return 'no quorum has confirmed the key state of this node since it joined';",
        replace: 'return null;',
      },
      {
        file: 'serving/key-lookup',
        find: '(isCurrent, definite) => isCurrent',
        replace: '(isCurrent, definite) => true',
      },
    ],
  },
  {
    name: 'reservation-counted-twice',
    origin: 'hsm.md: one that is proposed again, as nobody knows what became of it, counts once',
    edits: [
      {
        file: 'keystate/iv-commands',
        find: 'if (sequence <= tables.ivSequence(holder))',
        replace: 'if (false)',
      },
    ],
  },
  {
    name: 'settled-by-any-snapshot',
    origin: 'hsm.md: what a process used is wanted until its number is counted',
    edits: [
      {
        file: 'serving/iv-reports',
        find: 'state.ivSequence(processId) < asked.sequence',
        replace: 'false',
      },
    ],
  },
  {
    name: 'block-used-beyond-the-budget',
    origin: 'hsm.md: of a block that ends beyond the budget only what lies within is used',
    edits: [
      {
        file: 'serving/iv-accounts',
        find: 'account.beyond += ahead - withinBudget(',
        replace: 'account.beyond += 0 * withinBudget(',
      },
    ],
  },
];
