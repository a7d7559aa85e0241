import t from 'tap';
import type { Command, CommandEnvelope, CommandResult } from '../../../src/keystate/types.js';
import { createCredential, createKey, createStore, setRule } from '../keys/key-commands.js';
import { KeyKind } from '../keys/key-kind.js';
import { drawKeyScenario } from '../keys/key-scenario.js';
import { requestIdOf, wallMs } from '../keys/simulated-ids.js';
import type { MembershipCommand, ReleaseNumber } from '../machine-kind.js';
import { nextFormat } from '../next-format.js';
import { Random } from '../random.js';
import type { MembershipChange } from '../register-machine.js';
import type { Release } from '../release.js';
import { realBuild } from '../sim-build.js';
import { type AnsweredRequest, type Answerer, Answers } from './answers.js';
import { credentialSubject, KeyLedger, keySubject, type Subject, storeSubject } from './key-ledger.js';
import { Verdict } from './verdict.js';

// Each checker is shown what it must refuse, and the like that is good.

const envelope: CommandEnvelope = { requestId: 'r', atMs: 1, by: 'uid=0' };
const done = (revision: number): CommandResult => ({ ok: true, revision });
const refused: CommandResult = { ok: false, error: { code: 'conflict', message: 'changed since' } };

const boundMs = 6_000;
const store = createStore(envelope, 's');
const stops = setRule(envelope, 's', { rule: 'stop', boundMs }, 0);
const serves = setRule(envelope, 's', { rule: 'serve' }, 2);
const credential = createCredential(envelope, 's', 'A');
const key = createKey(envelope, 's', 'k', '');
const disable: Command = { type: 'key.disable', ...envelope, keyStore: 's', externalKeyId: 'k' };
const enable = (revision: number): Command => ({
  type: 'key.enable',
  ...envelope,
  keyStore: 's',
  externalKeyId: 'k',
  revision,
});
const retire: Command = { type: 'credential.retire', ...envelope, keyStore: 's', accessKeyId: 'A' };

/** One command after the other, each done. */
function ledgerOf(verdict: Verdict, commands: readonly Command[]): KeyLedger {
  const ledger = new KeyLedger(verdict);
  for (const [place, command] of commands.entries()) ledger.applied(place + 1, command, done(place + 1));
  return ledger;
}

function broken(run: (verdict: Verdict) => void): string | null {
  const verdict = new Verdict();
  run(verdict);
  return verdict.violation?.checker ?? null;
}

t.test('late grants undo nothing', async (t) => {
  const granted = (seen: number, result: CommandResult): string | null =>
    broken((verdict) => {
      ledgerOf(verdict, [store, stops, credential, key, disable]).applied(6, enable(seen), result);
    });
  t.equal(granted(5, done(6)), null);
  t.equal(granted(4, refused), null);
  t.equal(granted(4, done(6)), 'late grants undo nothing', 'it saw the key before it was disabled');
  const twice = (commands: readonly Command[]): string | null =>
    broken((verdict) => ledgerOf(verdict, commands));
  t.equal(twice([store, key, key]), 'late grants undo nothing', 'created twice');
  t.equal(twice([store, key, createKey(envelope, 's', 'other', '')]), null);
});

t.test('denials take effect', async (t) => {
  const denied = (result: CommandResult): string | null =>
    broken((verdict) => ledgerOf(verdict, [store, key]).applied(3, disable, result));
  t.equal(denied(done(3)), null);
  t.equal(denied(done(2)), 'denials take effect', 'it left the revision that a late grant saw');
  t.equal(denied(refused), 'denials take effect');
  t.equal(denied({ ok: true, revision: 2, repeated: true }), null, 'a repetition did it already');
});

const request: AnsweredRequest = { keyStore: 's', externalKeyId: 'k', accessKeyId: 'A' };

/** An answer at `nowMs`, by a process whose clock runs at `rate`. */
const by = (index: number, nowMs: number, acknowledgedIndex = 0, rate = 1): Answerer => ({
  process: 'p',
  index,
  acknowledgedIndex,
  elapsedMs: (sinceMs) => (nowMs - sinceMs) * rate,
});

/** `commands`; then what is at `index` was acknowledged at 1,000 ms, and `answerer` uses the key. */
const used = (commands: readonly Command[], index: number, answerer: Answerer): string | null =>
  broken((verdict) => {
    const ledger = ledgerOf(verdict, commands);
    ledger.acknowledged(index, 1_000);
    new Answers(verdict, ledger).succeeds(answerer, request);
  });

t.test('the kill switch: nothing leaves later than D after a denial was acknowledged', async (t) => {
  const disabled = [store, stops, credential, key, disable];
  t.equal(used(disabled, 5, by(4, 7_000)), null);
  t.equal(used(disabled, 5, by(4, 7_001)), 'kill-switch bound');
  t.equal(used(disabled, 5, by(4, 7_200, 0, 0.95)), null, 'its clock is slow: it cannot know better');
  t.equal(used(disabled, 5, by(4, 6_900, 0, 1.05)), 'kill-switch bound', 'its clock is fast: it does');
  t.equal(used([...disabled, enable(5)], 5, by(6, 9_000)), null, 'enabled again, and it knows');
  t.equal(used([...disabled, enable(5)], 5, by(4, 9_000)), 'kill-switch bound', 'by luck only');
  t.equal(used(disabled, 3, by(4, 90_000)), null, 'nobody was told yet');
  t.equal(used([store, stops, serves, credential, key, disable], 6, by(5, 90_000)), null, 'under `serve`');
  t.equal(
    used([store, stops, credential, key, retire], 5, by(4, 7_001)),
    'kill-switch bound',
    'a credential',
  );
  const stopped: Command = { type: 'keystore.disable', ...envelope, name: 's' };
  t.equal(
    used([store, stops, credential, key, stopped], 5, by(4, 7_001)),
    'kill-switch bound',
    'a key store',
  );
});

t.test('what is in force where it is known, and where it was acknowledged', async (t) => {
  const disabled = [store, stops, credential, key, disable];
  t.equal(used(disabled, 5, by(5, 1_001)), 'denied is denied');
  t.equal(used([store, stops, credential, key, retire], 5, by(5, 1_001)), 'denied is denied');
  t.equal(used([store, stops, credential], 3, by(3, 1_001)), 'denied is denied', 'there is no such key');
  t.equal(used(disabled, 5, by(4, 1_001, 4)), null);
  t.equal(used(disabled, 5, by(4, 1_001, 5)), 'acknowledged is in force');
});

t.test('a stale node does not lie', async (t) => {
  const denies = (
    subject: Subject,
    answerer: Answerer,
    commands = [store, stops, credential, key],
  ): string | null =>
    broken((verdict) => {
      const ledger = ledgerOf(verdict, commands);
      for (const index of [1, 3, 4]) ledger.acknowledged(index, 1_000);
      new Answers(verdict, ledger).unknown(answerer, subject);
    });
  t.equal(denies(keySubject('s', 'k'), by(3, 3_000)), null, 'younger than what is trusted');
  t.equal(denies(keySubject('s', 'k'), by(3, 3_001)), 'a stale node does not lie');
  t.equal(denies(keySubject('s', 'k'), by(4, 1_001)), 'a stale node does not lie', 'its own state has it');
  t.equal(denies(keySubject('s', 'other'), by(4, 9_000)), null, 'nobody has it');
  t.equal(denies(storeSubject('s'), by(0, 3_001)), 'a stale node does not lie');
  t.equal(denies(credentialSubject('A'), by(2, 3_001)), 'a stale node does not lie');
  t.equal(
    denies(credentialSubject('A'), by(5, 3_001), [store, stops, credential, key, retire]),
    null,
    'retired',
  );
});

t.test('older releases are kept out once a later format is active', async (t) => {
  const [thisOne, next] = realBuild.releases;
  const scenario = drawKeyScenario(new Random(1), true);
  if (scenario === null) throw new Error('a scenario over key state was asked for');
  const joins = (member: ReleaseNumber, release: Release): string | null =>
    broken((verdict) => {
      const kind = new KeyKind({
        build: { ...realBuild, releases: [thisOne, release] },
        scenario,
        ledger: new KeyLedger(verdict),
        verdict,
        nowMs: () => 0,
        isUnsettled: () => false,
        releaseOf: (name) => (name === 'n0' ? 1 : member),
      });
      const machine = kind.createMachine(1, () => {});
      const ask = (change: MembershipChange, name: string): MembershipCommand | null =>
        kind.membershipCommand({
          request: machine.appliedIndex + 1,
          change,
          member: name,
          seen: 0,
          at: 'n0',
          machine,
        });
      const apply = (bytes: Uint8Array | undefined): void => {
        if (bytes !== undefined) machine.apply(machine.appliedIndex + 1, bytes);
      };
      apply(ask('found', 'n0')?.bytes);
      apply(ask('addLearner', 'n1')?.bytes);
      const upgrade: Command = {
        type: 'cluster.upgrade',
        ...envelope,
        requestId: requestIdOf(9, 0),
        atMs: wallMs(0),
        format: nextFormat,
      };
      apply(next.encodeCommand(upgrade));
      t.equal(machine.state.activeFormat(), nextFormat);
      t.equal(ask('addLearner', 'n1') === null, member === 0 && release === next, 'asked to join');
    });
  const open: Release = { ...next, joinObstacle: () => null };
  t.equal(joins(0, next), null, 'refused');
  t.equal(joins(1, open), null, 'one that is as new');
  t.equal(joins(0, open), 'older releases are kept out');
});
