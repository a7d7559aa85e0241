import type { PlantedBug } from './planted-bug.js';

/** In the loop around the core. */
export const loopBugs: readonly PlantedBug[] = [
  {
    name: 'read-id-reused',
    origin: 'etcd-io/etcd#20418: a late answer to an earlier question is taken for one to this',
    edits: [
      {
        file: 'replication/replication-loop',
        find: 'this.#mintId()}`;',
        replace: "'read'}`;",
      },
    ],
  },
  {
    name: 'sent-before-persisted',
    origin: 'paper figure 2: durable before answering',
    edits: [
      {
        file: 'replication/ready-driver',
        find: '#take(ready) {',
        replace: `#take(ready) {
        for (const message of ready.messages)
            this.#options.send(message);
        ready = { ...ready, messages: [] };`,
      },
    ],
  },
  {
    name: 'applied-out-of-order',
    origin: 'paper §5.3: applied in log order',
    edits: [
      {
        file: 'replication/ready-driver',
        find: 'for (const entry of ready.committed) {',
        replace: 'for (const entry of [...ready.committed].reverse()) {',
      },
    ],
  },
  {
    name: 'read-before-applied',
    origin: 'thesis §6.4: wait until the read index is applied',
    edits: [
      {
        file: 'replication/pending-reads',
        find: 'else if (index <= appliedIndex)',
        replace: 'else if (true)',
      },
    ],
  },
  {
    name: 'freshness-from-heartbeats',
    origin: 'replication.md: bare heartbeats are not enough',
    edits: [
      {
        file: 'replication/replication-loop',
        find: 'this.#raft.step(message);\n',
        replace: `this.#raft.step(message);
        if (message.kind === 'heartbeat') this.#ports.fresh(this.#options.nowMs(), this.#applier.index);
`,
      },
    ],
  },
  {
    name: 'freshness-of-the-answer',
    origin: 'replication.md: fresh as of when it was asked, not of when it was answered',
    edits: [
      {
        file: 'replication/freshness',
        find: 'this.#confirmed.push({ asOfMs, index });',
        replace: 'this.#confirmed.push({ asOfMs: nowMs, index });',
      },
    ],
  },
  {
    name: 'fresh-before-applied',
    origin: 'replication.md: counts once that index is applied',
    edits: [{ file: 'replication/freshness', find: 'round.index <= appliedIndex && ', replace: '' }],
  },
  {
    name: 'silence-is-not-taken',
    origin: 'a proposal without an answer may be in a log',
    edits: [
      {
        file: 'replication/proposals',
        find: "this.#fail(proposal, 'unknown', 'the leader it was sent to did not answer in time');",
        replace: "this.#fail(proposal, 'not-taken', 'the leader it was sent to did not answer in time');",
      },
    ],
  },
  {
    name: 'own-index-is-own-entry',
    origin: 'what is applied at the index of a proposal may be another leader’s',
    edits: [
      {
        file: 'replication/committed-entries',
        find: 'proposals.applied(entry.term, applied.value);',
        replace: `for (let term = 0; term <= entry.term; term += 1) proposals.applied(term, applied.value);`,
      },
    ],
  },
];
