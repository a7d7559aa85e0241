import { randomBytes } from 'node:crypto';
import { errorText } from '../../src/base/guards.js';
import type { Connection, ConnectionEvents } from './connection.js';
import { Http1Connection } from './http1-connection.js';
import { Http2Connection } from './http2-connection.js';
import {
  answersWithinMsDefault,
  type LoadResult,
  LoadRun,
  type LoadShape,
  type Sample,
  type Sent,
} from './load-run.js';
import { type PreparedRequest, RequestRing, RequestSigner, signedParts } from './prepared-requests.js';
import type { DriverPlan, Verification } from './protocol.js';
import { isEncrypt } from './schedule.js';
import {
  cdivMatches,
  decryptBody,
  encryptBody,
  failureName,
  holdsPlaintext,
  type Message,
  parseEncrypted,
} from './xks-messages.js';

/** Different requests of each operation; then they come again. */
const distinctRequests = 512;
const renewEveryMs = 100;
const renewAtOnce = 8;
const askedWithinMs = 10_000;
const triesMax = 10;

const isRetryable = (status: number): boolean => status === 429 || status >= 500;

/** A signed request as another tool wants it. */
export interface SignedRequestParts {
  readonly url: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
  /** What the answer to a decrypt must hold, Base64; `null` of an encrypt. */
  readonly plaintext: string | null;
}

interface Answered {
  readonly status: number;
  readonly body: Buffer;
}

/** Encrypts on their way while requests are prepared: one after the other, a slow token would let idle connections end. */
const preparedAtOnce = 16;

/** Connections to a proxy, requests prepared for it, and one load run at a time. */
export class Driver {
  readonly #plan: DriverPlan;
  readonly #signer: RequestSigner;
  readonly #connections: Connection<Sent>[] = [];
  readonly #idle: Connection<Sent>[] = [];
  readonly #asked = new Map<Sent, (answer: Answered | string) => void>();
  #encrypts: RequestRing;
  #decrypts: RequestRing;
  #run: LoadRun | null = null;
  #sequence = 0;
  #samples: readonly Sample[] = [];
  #renewTimer: NodeJS.Timeout | null = null;

  private constructor(plan: DriverPlan) {
    this.#plan = plan;
    this.#signer = new RequestSigner(plan.access, plan.urls[0] ?? '', plan.http);
    this.#encrypts = new RequestRing([], this.#signer);
    this.#decrypts = new RequestRing([], this.#signer);
  }

  /** Connects, encrypts what is to be decrypted, and signs. Rejects when the proxy can't be used. */
  static async prepare(
    plan: DriverPlan,
  ): Promise<{ readonly driver: Driver; readonly signed: number; readonly signingMicros: number }> {
    const driver = new Driver(plan);
    try {
      return { driver, ...(await driver.#prepare()) };
    } catch (failure) {
      driver.close();
      throw failure;
    }
  }

  async #prepare(): Promise<{ readonly signed: number; readonly signingMicros: number }> {
    await this.#connect();
    const messages = Array.from({ length: distinctRequests }, () => randomMessage(this.#plan));
    const cpu = process.cpuUsage();
    const encrypts = messages.map((message) => this.#encrypt(message));
    const { user, system } = process.cpuUsage(cpu);
    const decrypts: PreparedRequest[] = [];
    const atOnce = Math.min(preparedAtOnce, this.#connections.length);
    for (let from = 0; from < encrypts.length; from += atOnce) {
      const some = encrypts.slice(from, from + atOnce);
      decrypts.push(...(await Promise.all(some.map((request) => this.#decryptFor(request)))));
    }
    this.#encrypts = new RequestRing(encrypts, this.#signer);
    this.#decrypts = new RequestRing(decrypts, this.#signer);
    this.#renewTimer = setInterval(() => {
      this.#encrypts.renew(renewAtOnce, Date.now());
      this.#decrypts.renew(renewAtOnce, Date.now());
    }, renewEveryMs);
    return { signed: encrypts.length, signingMicros: user + system };
  }

  /** The decrypt of what an encrypt gave. */
  async #decryptFor(request: PreparedRequest): Promise<PreparedRequest> {
    const answer = await this.#askAgain(request);
    const encrypted = parseEncrypted(answer.body);
    if (answer.status !== 200 || encrypted === null)
      throw new Error(`an encrypt was answered ${failureName(answer.status, answer.body)}`);
    const body = decryptBody(encrypted, request.message.aad);
    return this.#signer.prepare('decrypt', request.message, body, Date.now());
  }

  /** `answersWithinMs`: of the last request. */
  run(shape: LoadShape, answersWithinMs = answersWithinMsDefault): Promise<LoadResult> {
    return new Promise((resolve) => {
      this.#run = new LoadRun(
        shape,
        this.#idle,
        () => this.#next(),
        (run) => {
          this.#samples = run.samples;
          // In a turn of its own: not from inside an answer.
          setImmediate(() => {
            this.#run = null;
            resolve(run.result());
          });
        },
        answersWithinMs,
      );
      this.#run.start();
    });
  }

  /** Decrypts the samples of the last run through the API, and computes their integrity values. */
  async verify(): Promise<Verification> {
    let verified = 0;
    const faults: string[] = [];
    for (const { request, body } of this.#samples) {
      const fault = await this.#faultOf(request, body).catch(errorText);
      if (fault === null) verified += 1;
      else faults.push(fault);
    }
    return { verified, wrong: faults.length, firstFault: faults[0] ?? null };
  }

  /** Different requests of the plan's mix, signed anew and taken apart, for another tool to send. */
  signedRequests(count: number): readonly SignedRequestParts[] {
    const { urls, access } = this.#plan;
    return Array.from({ length: count }, (_, index) => {
      const url = urls[index % urls.length] ?? '';
      const { operation, message, body } = this.#next();
      const { path, headers } = signedParts(access, new URL(url).host, operation, body, Date.now());
      return {
        url: `${new URL(url).origin}${path}`,
        headers,
        body: body.toString('utf8'),
        plaintext: operation === 'decrypt' ? message.plaintext : null,
      };
    });
  }

  close(): void {
    if (this.#renewTimer !== null) clearInterval(this.#renewTimer);
    for (const connection of this.#connections) connection.close();
  }

  async #faultOf(request: PreparedRequest, body: Buffer): Promise<string | null> {
    const { message } = request;
    const encrypted = parseEncrypted(body);
    if (encrypted === null) return 'an encrypt was answered with something else';
    if (this.#plan.bodies.cdiv && !cdivMatches(encrypted, message.aad))
      return 'the integrity value of an encrypt does not match';
    const decrypt = decryptBody(encrypted, message.aad);
    const answer = await this.#askAgain(this.#signer.prepare('decrypt', message, decrypt, Date.now()));
    if (answer.status !== 200)
      return `what an encrypt gave could not be decrypted: ${failureName(answer.status, answer.body)}`;
    return holdsPlaintext(answer.body, message.plaintext)
      ? null
      : 'an encrypt came back as another plaintext';
  }

  async #connect(): Promise<void> {
    const { urls, ca, http, connections, streams } = this.#plan;
    const events: ConnectionEvents<Sent> = {
      answered: (sent, status, body) => {
        const asked = this.#asked.get(sent);
        if (asked !== undefined) asked({ status, body: Buffer.from(body) });
        else sent.run?.answered(sent, status, body);
      },
      failed: (sent, reason) => {
        const asked = this.#asked.get(sent);
        if (asked !== undefined) asked(reason);
        else sent.run?.failed(sent, reason);
      },
      free: (connection) => {
        if (this.#run === null) this.#idle.push(connection);
        else this.#run.free(connection);
      },
    };
    for (let index = 0; index < connections; index++) {
      const endpoint = { url: urls[index % urls.length] ?? '', ca };
      this.#connections.push(
        http === '2'
          ? await Http2Connection.connect(endpoint, streams, events)
          : await Http1Connection.connect(endpoint, events),
      );
    }
  }

  #next(): PreparedRequest {
    const encrypts = isEncrypt(this.#sequence, this.#plan.encryptShare);
    this.#sequence += 1;
    return (encrypts ? this.#encrypts : this.#decrypts).next();
  }

  #encrypt(message: Message): PreparedRequest {
    const body = encryptBody(message, this.#plan.bodies.cdiv);
    return this.#signer.prepare('encrypt', message, body, Date.now());
  }

  /**
   * Asks until the answer is one that KMS would not try again: a token that opens its sessions at the first request
   * may need longer than the deadline, and a refusal for want of time says nothing of what is looked at.
   */
  async #askAgain(request: PreparedRequest): Promise<Answered> {
    let answer = await this.#ask(request);
    for (let tries = 1; tries < triesMax && isRetryable(answer.status); tries++)
      answer = await this.#ask(request);
    return answer;
  }

  /** Outside of a run, not more at a time than there are connections. */
  #ask(request: PreparedRequest): Promise<Answered> {
    const sent: Sent = { request, dueMs: 0, run: null };
    return new Promise((resolve, reject) => {
      const end = (answer: Answered | string): void => {
        clearTimeout(timer);
        this.#asked.delete(sent);
        if (typeof answer === 'string') reject(new Error(answer));
        // The connection is free again by then.
        else setImmediate(() => resolve(answer));
      };
      const timer = setTimeout(() => end(`no answer within ${askedWithinMs} ms`), askedWithinMs);
      this.#asked.set(sent, end);
      for (let connection = this.#idle.shift(); connection !== undefined; connection = this.#idle.shift()) {
        if (connection.send(sent, request.wire)) return;
      }
      end('no connection is left');
    });
  }
}

function randomMessage({ bodies }: DriverPlan): Message {
  return {
    plaintext: randomBytes(bodies.plaintextBytes).toString('base64'),
    aad: randomBytes(bodies.aadBytes).toString('base64'),
  };
}
