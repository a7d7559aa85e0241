import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isJsonObject } from '../../src/base/guards.js';
import { mintRequestId, requestIdRandomBytes } from '../../src/replica/admin-contract.js';
import { eventually } from '../support/running-node.js';
import type { SeededRandom } from '../support/seeded-random.js';
import { type ChaosCluster, keyStoreName, toggledKeys } from './chaos-cluster.js';
import type { ChaosNode } from './chaos-node.js';
import { type KeyOperation, type KeyState, linearizabilityProblem } from './linearizability.js';
import { type AdminChange, type NodeAnswer, nodeAnswerProblems } from './node-answers.js';
import { XksCaller } from './xks-caller.js';

/** Exit codes and error codes of `xksctl` after which a change was certainly not made, and will not be. */
const notTaken = 12;
const refusals = ['conflict', 'refused', 'not-found', 'limit', 'not-running', 'overloaded', 'no-quorum'];
/** How often a change whose outcome is unknown is repeated, under its request id, through whichever node. */
const attemptsMax = 4;

export interface AdminReport {
  readonly made: number;
  readonly refused: number;
  /** Never answered, whoever was asked again. */
  readonly unknown: number;
  /** Answered at a second attempt at least. */
  readonly repeated: number;
  /** Requests sent to one node right after it had said that it applied a change. */
  readonly nodeAnswers: number;
  readonly problems: readonly string[];
}

type Outcome =
  | { readonly kind: 'made'; readonly revision: number; readonly applied: boolean }
  | { readonly kind: 'refused' }
  | { readonly kind: 'unknown' };

interface RecordedOperation extends KeyOperation {
  readonly key: string;
}

/**
 * Operators at work: each switches keys off and on through one node or another by `xksctl`, repeats what it got no answer
 * to, and looks whether the node that confirmed a change acts on it.
 */
export class AdminHistory {
  readonly #cluster: ChaosCluster;
  readonly #random: SeededRandom;
  readonly #callers = new Map<ChaosNode, XksCaller>();
  readonly #initial = new Map<string, KeyState>();
  readonly #operations: RecordedOperation[] = [];
  readonly #changes: AdminChange[] = [];
  readonly #answers: NodeAnswer[] = [];
  readonly #avoided = new Set<ChaosNode>();
  #operators: readonly Promise<void>[] = [];
  #stopping = false;
  #refused = 0;
  #repeated = 0;

  private constructor(cluster: ChaosCluster, random: SeededRandom) {
    this.#cluster = cluster;
    this.#random = random;
    for (const node of cluster.nodes) this.#callers.set(node, new XksCaller(cluster.accessTo(node), 2));
  }

  /** All nodes are at peace now. */
  static async start(
    cluster: ChaosCluster,
    random: SeededRandom,
    { operators, pauseMs }: { readonly operators: number; readonly pauseMs: number },
  ): Promise<AdminHistory> {
    const history = new AdminHistory(cluster, random);
    const { node } = await cluster.leader();
    for (const key of toggledKeys) history.#initial.set(key, await look(node, key));
    history.#operators = Array.from({ length: operators }, () => history.#operate(pauseMs));
    return history;
  }

  /** No operator uses this node any more: it is not to be answered by, or is known to be out of date. */
  avoid(node: ChaosNode): void {
    this.#avoided.add(node);
  }

  unavoid(node: ChaosNode): void {
    this.#avoided.delete(node);
  }

  /** Resolves once a change has come through, which on a busy machine may be after all that was done to the nodes. */
  changed(): Promise<void> {
    const isMade = ({ kind, endedMs }: RecordedOperation): boolean => kind !== 'read' && endedMs !== null;
    return eventually('a change of key state', () => this.#operations.some(isMade));
  }

  /** Lets the operators finish what they have begun. To be called before the last look at the nodes. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#operators);
    await Promise.all([...this.#callers.values()].map((caller) => caller.destroy()));
  }

  /** The account, once all `nodes` hold the same state. */
  async report(nodes: readonly ChaosNode[]): Promise<AdminReport> {
    for (const key of toggledKeys) {
      for (const node of nodes) {
        const invokedMs = Date.now();
        const seen = await look(node, key);
        this.#operations.push({ key, kind: 'read', invokedMs, endedMs: Date.now(), seen });
      }
    }
    const problems = nodeAnswerProblems(this.#changes, this.#answers);
    for (const key of toggledKeys) {
      const initial = this.#initial.get(key);
      const operations = this.#operations.filter((operation) => operation.key === key);
      const problem = initial === undefined ? null : linearizabilityProblem(initial, operations);
      if (problem === null) continue;
      const file = join(this.#cluster.directory, `history-${key}.json`);
      writeFileSync(file, JSON.stringify({ initial, operations }, null, 1));
      problems.push(`history of ${key} (${file}): ${problem}`);
    }
    const changes = this.#operations.filter(({ kind }) => kind !== 'read');
    const unknown = changes.filter(({ endedMs }) => endedMs === null).length;
    return {
      made: changes.length - unknown,
      refused: this.#refused,
      unknown,
      repeated: this.#repeated,
      nodeAnswers: this.#answers.length,
      problems,
    };
  }

  async #operate(pauseMs: number): Promise<void> {
    while (!this.#stopping) {
      await this.#change(this.#random.pick(toggledKeys), this.#random.pick(['enable', 'disable'] as const));
      await delay(pauseMs);
    }
  }

  #pickNode(): ChaosNode {
    const usable = this.#cluster.nodes.filter((node) => node.pid > 0 && !this.#avoided.has(node));
    return this.#random.pick(usable.length > 0 ? usable : this.#cluster.nodes);
  }

  async #change(key: string, kind: 'enable' | 'disable'): Promise<void> {
    const requestId = mintRequestId(Date.now(), this.#random.bytes(requestIdRandomBytes));
    const invokedMs = Date.now();
    const change = {
      key,
      kind,
      invokedMs,
      endedMs: null as number | null,
      confirmedBy: null as string | null,
    };
    this.#changes.push(change);
    for (let attempt = 1; attempt <= attemptsMax; attempt += 1) {
      const node = this.#pickNode();
      const outcome = await attemptChange(node, requestId, kind, key);
      if (outcome.kind === 'unknown') continue;
      // What was sent before may still be taken, unless the log itself has refused it: then it will again.
      if (outcome.kind === 'refused' && attempt > 1) continue;
      change.endedMs = Date.now();
      if (outcome.kind === 'refused') {
        this.#refused += 1;
        // Not made: it is no part of the history.
        this.#changes.splice(this.#changes.indexOf(change), 1);
        return;
      }
      if (attempt > 1) this.#repeated += 1;
      const status = kind === 'enable' ? 'ENABLED' : 'DISABLED';
      const seen = { status, revision: outcome.revision } as const;
      this.#operations.push({ key, kind, invokedMs, endedMs: change.endedMs, seen });
      if (outcome.applied) {
        change.confirmedBy = node.name;
        await this.#ask(node, key);
      }
      return;
    }
    this.#operations.push({ key, kind, invokedMs, endedMs: null, seen: null });
  }

  /** Whether a node acts as it has just said that it does. */
  async #ask(node: ChaosNode, key: string): Promise<void> {
    const sentMs = Date.now();
    try {
      const answer = await this.#callers.get(node)?.encrypt(key, 'AAAA', true);
      if (answer === undefined) return;
      const error = answer.body['errorName'];
      const { name } = node;
      this.#answers.push({
        node: name,
        key,
        sentMs,
        endedMs: Date.now(),
        status: answer.status,
        error: typeof error === 'string' ? error : null,
      });
    } catch {
      // The node has just been killed, or the like.
    }
  }
}

async function look(
  node: ChaosNode,
  key: string,
): Promise<{ readonly status: KeyState['status']; readonly revision: number }> {
  const looks: { readonly status: KeyState['status']; readonly revision: number }[] = [];
  // One that is not answered saw nothing: on a busy machine there may be an election just now.
  await eventually(`a look at ${key} through ${node.name}`, async () => {
    const answer = await node
      .call('key.show', { keyStore: keyStoreName, externalKeyId: key })
      .catch(() => null);
    if (answer !== null) looks.push({ status: answer.key.status, revision: answer.key.revision });
    return answer !== null;
  });
  const [seen] = looks;
  if (seen === undefined) throw new Error('a look that was answered');
  return seen;
}

async function attemptChange(
  node: ChaosNode,
  requestId: string,
  kind: 'enable' | 'disable',
  key: string,
): Promise<Outcome> {
  const args = ['-o', 'json', '--request-id', requestId, 'key', kind, keyStoreName, key];
  const { status, stdout, stderr } = await node.xksctl(...args);
  // 3: made, and not everywhere confirmed.
  if (status === 0 || status === 3) {
    const answer: unknown = JSON.parse(stdout);
    const change = isJsonObject(answer) ? answer['change'] : null;
    if (!isJsonObject(change)) throw new Error(`xksctl key ${kind} printed ${stdout}`);
    return { kind: 'made', revision: Number(change['index']), applied: change['applied'] === true };
  }
  if (status === notTaken || refusals.includes(errorCode(stderr))) return { kind: 'refused' };
  return { kind: 'unknown' };
}

function errorCode(stderr: string): string {
  for (const line of stderr.split('\n')) {
    if (!line.startsWith('{')) continue;
    const value: unknown = JSON.parse(line);
    const error = isJsonObject(value) ? value['error'] : null;
    if (isJsonObject(error)) return String(error['code']);
  }
  return '';
}
