import { err, ok, type Result } from '../base/result.js';
import { encodeJsonFrame } from '../ops/frames.js';
import { FrameType, type HsmOperation, type HsmReply, type HsmReplyValues } from '../ops/state-link.js';
import type { AdminError } from './admin-error.js';
import { parseHsmReplyValue } from './link-payloads.js';
import type { ServingLink } from './serving-link.js';
import type { GreetedLink, StatePublication } from './state-publication.js';

/** Requests without a reply yet. People ask for them, one at a time. */
const hsmRequestsMax = 32;
/** Key generation on a slow token, and a login that waits its turn, included. */
const hsmRequestTimeoutMs = 20_000;
/** A node that has just been started, or lost its only serving process, has one again by then. */
const servingProcessWaitMs = 5_000;

/** Asking twice leaves no more behind than asking once. A minted credential exists nowhere until it is proposed. */
const repeatable: { readonly [Op in HsmOperation['op']]: boolean } = {
  'list-objects': true,
  'prepare-token': true,
  'generate-key': false,
  'inspect-key': true,
  'locate-key': true,
  'test-tokens': true,
  'probe-tokens': true,
  'mint-credential': true,
  'retry-login': false,
};

type Outcome =
  | { readonly kind: 'reply'; readonly reply: HsmReply }
  | { readonly kind: 'link-lost' }
  | { readonly kind: 'timeout' };

interface Pending {
  readonly link: ServingLink;
  readonly settle: (outcome: Outcome) => void;
}

/** Has serving processes do what administration needs of the HSM: the replica never loads a PKCS#11 module. */
export class HsmRequests {
  readonly #publication: StatePublication;
  readonly #timeoutMs: number;
  readonly #waitMs: number;
  /** Who waits for a serving process to be linked. */
  readonly #waiting = new Set<() => void>();
  readonly #pending = new Map<number, Pending>();
  #nextId = 1;

  constructor(
    publication: StatePublication,
    limits: { readonly timeoutMs: number; readonly waitMs: number } = {
      timeoutMs: hsmRequestTimeoutMs,
      waitMs: servingProcessWaitMs,
    },
  ) {
    this.#publication = publication;
    this.#timeoutMs = limits.timeoutMs;
    this.#waitMs = limits.waitMs;
    publication.observe({
      onHello: () => {
        for (const wake of [...this.#waiting]) wake();
      },
      onMetrics: () => {},
      onHsmReply: (link, reply) => {
        const pending = this.#pending.get(reply.id);
        // A reply that comes after its timeout, or through another's link, belongs to nobody.
        if (pending?.link === link) pending.settle({ kind: 'reply', reply });
      },
      onClosed: (link) => {
        for (const pending of [...this.#pending.values()]) {
          if (pending.link === link) pending.settle({ kind: 'link-lost' });
        }
      },
    });
  }

  /** Asks a serving process, a ready one if there is one; another one when it dies and the operation may be repeated. */
  async ask<Op extends HsmOperation['op']>(
    operation: Extract<HsmOperation, { readonly op: Op }>,
  ): Promise<Result<HsmReplyValues[Op], AdminError>> {
    const tried = new Set<GreetedLink>();
    for (;;) {
      const link = this.#choose(tried) ?? (await this.#another(tried));
      if (link === null) return err(tried.size === 0 ? noServingProcess : allDied(operation.op));
      tried.add(link);
      const outcome = await this.askOf<Op>(link, operation);
      if (outcome !== 'link-lost') return outcome;
      if (!repeatable[operation.op]) {
        return err({
          code: 'outcome-unknown',
          message: `The serving process ended while it did ${operation.op}; whether it was done is not known.`,
        });
      }
    }
  }

  /** Asks one serving process only. */
  async askOf<Op extends HsmOperation['op']>(
    link: GreetedLink,
    operation: Extract<HsmOperation, { readonly op: Op }>,
  ): Promise<Result<HsmReplyValues[Op], AdminError> | 'link-lost'> {
    if (this.#pending.size >= hsmRequestsMax) {
      return err({
        code: 'overloaded',
        message: `${hsmRequestsMax} requests to the HSM are waiting already; try again.`,
      });
    }
    if (!this.#publication.links().includes(link)) return 'link-lost';
    const outcome = await this.#exchange(link, operation);
    if (outcome.kind === 'link-lost') return 'link-lost';
    if (outcome.kind === 'timeout') {
      const seconds = this.#timeoutMs / 1_000;
      return err({
        code: 'timeout',
        message: `The serving process did not answer ${operation.op} within ${seconds} s; the HSM may hang.`,
      });
    }
    const { reply } = outcome;
    if (!reply.ok) return err({ code: reply.code, message: reply.message });
    const value = parseHsmReplyValue<Op>(operation.op, reply.value);
    return value.ok ? ok(value.value) : err({ code: 'internal', message: value.error });
  }

  #exchange(link: GreetedLink, operation: HsmOperation): Promise<Outcome> {
    const id = this.#nextId;
    this.#nextId += 1;
    return new Promise((resolve) => {
      const settle = (outcome: Outcome): void => {
        clearTimeout(timer);
        this.#pending.delete(id);
        resolve(outcome);
      };
      const timer = setTimeout(() => settle({ kind: 'timeout' }), this.#timeoutMs);
      this.#pending.set(id, { link, settle });
      link.enqueue(encodeJsonFrame(FrameType.hsmRequest, { id, ...operation }));
    });
  }

  /** Waits for a serving process that has not been asked. */
  async #another(tried: ReadonlySet<GreetedLink>): Promise<GreetedLink | null> {
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, this.#waitMs);
      this.#waiting.add(wake);
    });
    return this.#choose(tried);
  }

  #choose(tried: ReadonlySet<GreetedLink>): GreetedLink | null {
    const links = this.#publication.links().filter((link) => !tried.has(link));
    // One that is not ready may well be asked: it says what is wrong with its token, and `hsm prepare` cures it.
    return links.find((link) => link.report?.readiness.ready === true) ?? links[0] ?? null;
  }
}

const noServingProcess: AdminError = {
  code: 'no-serving-process',
  message:
    'No serving process is connected, and only they speak to the HSM. ' +
    'See `xksctl status` and the log of xksd for why none is up.',
};

const allDied = (op: string): AdminError => ({
  code: 'no-serving-process',
  message: `Every serving process ended while it did ${op}; the log of xksd says why.`,
});
