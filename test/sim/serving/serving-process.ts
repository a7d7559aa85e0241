import { silentLogger } from '../../../src/base/logger.js';
import type { Result } from '../../../src/base/result.js';
import type { LinkConnection } from '../../../src/ops/link-connection.js';
import type { Admission, Opened } from '../../../src/serving/admission.js';
import type { IvAccounts } from '../../../src/serving/iv-accounts.js';
import type { IvReports } from '../../../src/serving/iv-reports.js';
import type { StateClient } from '../../../src/serving/state-client.js';
import type { FreshnessTracker } from '../../../src/serving/state-freshness.js';
import { type XksError, xksError } from '../../../src/xks/errors.js';
import type { AnsweredRequest, Answerer } from '../checkers/answers.js';
import { simulatedIvsMax } from '../checkers/iv-ledger.js';
import type { KeyLedger } from '../checkers/key-ledger.js';
import { prefixOf } from '../keys/key-commands.js';
import { stateHashNumber } from '../keys/key-machine.js';
import { wallMs } from '../keys/simulated-ids.js';
import type { Random } from '../random.js';
import type { Release } from '../release.js';
import type { SimNode } from '../sim-node.js';
import type { World } from '../world.js';
import { SimProcess } from './sim-process.js';

export const supervisorNonce = 'simulated';
/** Of an HSM's answers: those that come when they are of no use any more. They must not leave then, either. */
const hungChance = 0.06;
const hungMeanMs = 3_000;
/** That one simulated request stands for, at most. */
const encryptionsMost = 700;
/** Indexes between two at which its state is compared with that of replicas. */
const comparedEvery = 4;

/** One life of a process. */
interface Life {
  readonly process: SimProcess;
  readonly release: Release;
  readonly processId: string;
  readonly pid: number;
  readonly client: StateClient;
  readonly freshness: FreshnessTracker;
  readonly admission: Admission;
  readonly accounts: IvAccounts;
  readonly reports: IvReports;
}

export interface ServingProcessOptions {
  readonly world: World;
  readonly random: Random;
  readonly ledger: KeyLedger;
  readonly node: SimNode;
  readonly slot: number;
  readonly hsmMeanMs: number;
  /** Never given out before. */
  readonly nextPid: () => number;
  /** To the replica of this node, whether it is there or not. */
  readonly connect: (from: SimProcess) => LinkConnection;
  /** What the replica has been told by that process; 0 when it knows none such. */
  readonly acknowledgedIndex: (processId: string) => number;
}

/** How a request ended: `null` well, else with this error. */
export type Answered = (error: XksError | null, by: Answerer, request: AnsweredRequest) => void;

/**
 * A serving process without listeners and HSM: the real client of the state link, the real freshness and admission; it
 * comes and goes.
 */
export class ServingProcess {
  readonly name: string;
  readonly slot: number;
  /** Stopped until then. */
  stalledUntilMs = 0;
  readonly #options: ServingProcessOptions;
  #life: Life | null = null;
  #acknowledgedIndex = 0;
  #requests = 0;

  constructor(options: ServingProcessOptions) {
    this.#options = options;
    this.slot = options.slot;
    this.name = `${options.node.memberId}/${options.slot}`;
  }

  get up(): boolean {
    return this.#life !== null;
  }

  get pid(): number | null {
    return this.#life?.pid ?? null;
  }

  start(): void {
    if (this.#life !== null) return;
    const { world, random, node, slot, nextPid, connect } = this.#options;
    const release = world.build.releases[node.release];
    const process = new SimProcess(world, this.name, () => this.stalledUntilMs);
    const clock = process.clock(node.clock);
    const freshness = world.build.createFreshness(
      release,
      () => node.clock.localMs(world.nowMs),
      () => node.clock.monotonicMs(world.nowMs),
    );
    const pid = nextPid();
    const processId = `${this.name}/${pid}`;
    world.say(() => `${processId} starts (release ${node.release})`);
    this.#acknowledgedIndex = 0;
    const client = new release.StateClient({
      connect: () => connect(process),
      hello: {
        linkVersion: 1,
        pid,
        slot,
        supervisorNonce,
        processId,
        startedAtMs: wallMs(world.nowMs),
        version: String(node.release),
      },
      clock,
      timers: process.timers(),
      random: { bytes: (length) => Uint8Array.from({ length }, () => random.below(256)) },
      logger: silentLogger,
      onState: (state, command, result) => {
        reports.onState(state, command, result);
        // Of commands every so many: hashes are of the whole state.
        if (command !== null && state.appliedIndex % comparedEvery !== 0) return;
        world.checkers.servingState(this.name, state.appliedIndex, stateHashNumber(state));
      },
      onLink: () => world.say(() => `${processId} ${client.linked ? 'is linked' : 'has lost its link'}`),
      onFresh: (asOfMs) => {
        freshness.confirmed(asOfMs);
        const index = client.state?.appliedIndex ?? 0;
        world.checkers.acknowledgements.fresh(this.name, node.clock.trueMs(asOfMs), index, index);
      },
      onStanding: (standing) => freshness.standingChanged(standing),
      onHsmRequest: () => Promise.resolve(null),
    });
    const admission = new release.Admission(() => client.state, freshness);
    const accounts = new release.IvAccounts({ clock, encryptionsMax: simulatedIvsMax });
    const reports: IvReports = new release.IvReports({
      accounts,
      processId,
      state: () => client.state,
      send: (frame) => client.send(frame),
      timers: process.timers(),
    });
    this.#life = { process, release, processId, pid, client, freshness, admission, accounts, reports };
    process.after(0, 'start', () => client.start());
  }

  kill(reason: string): void {
    const life = this.#life;
    if (life === null) return;
    this.#options.world.say(() => `${life.processId} ends (${reason})`);
    this.#life = null;
    life.reports.close();
    life.client.close();
    life.process.end();
  }

  #answerer({ client, processId }: Life): Answerer {
    const { world, node, acknowledgedIndex } = this.#options;
    this.#acknowledgedIndex = Math.max(this.#acknowledgedIndex, acknowledgedIndex(processId));
    return {
      process: processId,
      index: client.state?.appliedIndex ?? 0,
      acknowledgedIndex: this.#acknowledgedIndex,
      elapsedMs: (sinceTrueMs) => node.clock.elapsedMs(sinceTrueMs, world.nowMs),
    };
  }

  /** An Encrypt, in the order of the pipeline (src/serving/pipeline.ts). Nobody answers when the process ends. */
  serve(request: AnsweredRequest, answered: Answered): void {
    const life = this.#life;
    if (life === null) return;
    life.process.after(0, 'request', () => {
      const answer = (error: XksError | null): void => {
        this.#checkFreshness(life);
        answered(error, this.#answerer(life), request);
      };
      const admitted = this.#admit(life, request);
      if (!admitted.ok) {
        answer(admitted.error);
        return;
      }
      if (!this.#encrypts(life, admitted.value)) {
        answer(xksError('InvalidStateException', 'no random IVs are left'));
        return;
      }
      const { hsmMeanMs, random } = this.#options;
      const isHung = random.chance(hungChance);
      life.process.after(random.exponential(isHung ? hungMeanMs : hsmMeanMs), 'hsm', () => {
        answer(this.#leave(life, admitted.value, request));
      });
    });
  }

  /** As many as the requests would be that it stands for. @returns whether it may begin with one. */
  #encrypts(
    { accounts, processId }: Life,
    { opened: { state }, version }: { readonly opened: Opened; readonly version: UsedVersion },
  ): boolean {
    this.#requests += 1;
    const { objectId } = version;
    const { ivs } = this.#options.ledger;
    const count = 1 + ((this.#requests * 211) % encryptionsMost);
    let made = 0;
    while (made < count && accounts.mayEncrypt(objectId, state)) {
      made += 1;
      accounts.asked(objectId);
      ivs.encrypts(processId, objectId, state);
    }
    const unreported = accounts.usedBeside([]).find((one) => one.objectId === objectId)?.used ?? 0;
    ivs.reports(processId, objectId, unreported, state);
    return made > 0;
  }

  /** As it believes to be, whatever it was told. */
  #checkFreshness({ client, freshness }: Life): void {
    const { world, node } = this.#options;
    const asOfMs = node.clock.localMs(world.nowMs) - freshness.ageMs();
    if (asOfMs === Number.NEGATIVE_INFINITY) return;
    const index = client.state?.appliedIndex ?? 0;
    world.checkers.acknowledgements.fresh(this.name, node.clock.trueMs(asOfMs), index, index);
  }

  #admit(
    { admission, release }: Life,
    { keyStore, externalKeyId, accessKeyId }: AnsweredRequest,
  ): Result<{ readonly opened: Opened; readonly version: UsedVersion }, XksError> {
    const opened = admission.open(prefixOf(keyStore));
    if (!opened.ok) return opened;
    const credential = opened.value.state.credential(accessKeyId);
    if (credential?.keyStore !== keyStore) {
      const unknown = credential === null ? accessKeyId : null;
      return { ok: false, error: admission.notAuthentic(opened.value, unknown) };
    }
    const isolated = admission.isolationFault(opened.value);
    if (isolated !== null) return { ok: false, error: isolated };
    const key = release.findUsableKey(admission.known(opened.value), keyStore, externalKeyId);
    if (!key.ok) return key;
    const version = release.findUsableVersion(key.value, key.value.currentVersion);
    if (version === null) throw new Error('a key without its current version');
    return version.ok ? { ok: true, value: { opened: opened.value, version: version.value } } : version;
  }

  #leave(
    { admission, release }: Life,
    { opened, version }: { readonly opened: Opened; readonly version: UsedVersion },
    { keyStore, externalKeyId, accessKeyId }: AnsweredRequest,
  ): XksError | null {
    return (
      release.checkStillUsable(admission.known(opened), keyStore, externalKeyId, version) ??
      admission.leavingFault(opened, accessKeyId)
    );
  }

  /** What keeps it from serving as one should where all is healed; `null`: nothing. */
  fault(index: number, hash: number): string | null {
    const life = this.#life;
    if (life === null) return 'it does not run';
    const { client, freshness } = life;
    if (client.state === null) return 'it has no state';
    if (client.state.appliedIndex !== index) return `it has applied ${client.state.appliedIndex} of ${index}`;
    if (stateHashNumber(client.state) !== hash) return 'its state is another than that of its replica';
    if (!client.linked) return 'it has no link';
    if (!freshness.standing.mayServe) return `it may not serve: ${freshness.standing.reason}`;
    return freshness.isCurrent() ? null : 'it is not fresh';
  }
}

type UsedVersion = Parameters<Release['checkStillUsable']>[3];
