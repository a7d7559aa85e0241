import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { systemRandom } from '../../src/base/random.js';
import { systemTimers } from '../../src/base/timers.js';
import { encodeCommand } from '../../src/keystate/command-codec.js';
import type { Command } from '../../src/keystate/types.js';
import { IvReports } from '../../src/serving/iv-reports.js';
import { StateClient } from '../../src/serving/state-client.js';
import { testNonce } from '../replica/fake-serving-process.js';
import { foundedReplica } from '../replica/replica-at-seams.js';
import { requestIdAt } from '../support/founded-cluster.js';
import {
  type BareCommand,
  decryptRequest,
  encryptRequest,
  PipelineFixture,
} from '../support/pipeline-fixture.js';

/** Small, and such that the first block lies within it and the second ends beyond. */
const encryptionsMax = 5_000;
const key = { keyStore: 'one', externalKeyId: 'key' };

/**
 * A replica with its socket and administration, and the parts of a serving process over the real link: all but the
 * cryptography, which is software, and the listeners.
 */
async function node(t: Test) {
  const replica = await foundedReplica(t);
  const commands: BareCommand[] = [];
  class Recorded extends PipelineFixture {
    override apply(command: BareCommand): void {
      super.apply(command);
      commands.push(command);
    }
  }
  const serving = new Recorded({ state: () => client.state }, encryptionsMax);
  for (const [place, command] of commands.entries()) {
    const atMs = replica.now.wallMs;
    const whole = { ...command, requestId: requestIdAt(atMs, place + 1), atMs, by: 'test' } as Command;
    await replica.log.propose(encodeCommand(whole));
  }
  const processId = randomBytes(8).toString('hex');
  let applied: () => void = () => {};
  const client: StateClient = new StateClient({
    connect: () => connect(join(replica.directory, 'state.sock')),
    hello: {
      linkVersion: 1,
      pid: process.pid,
      slot: 1,
      supervisorNonce: testNonce,
      processId,
      startedAtMs: 0,
      version: '1',
    },
    clock: systemClock,
    timers: systemTimers,
    random: systemRandom,
    logger: silentLogger,
    onState: (state, command, result) => {
      reports.onState(state, command, result);
      applied();
    },
    onLink: () => {},
    onFresh: () => {},
    onStanding: () => {},
    onHsmRequest: () => Promise.resolve(null),
  });
  const reports = new IvReports({
    accounts: serving.ivs,
    processId,
    state: () => client.state,
    send: (frame) => client.send(frame),
    timers: systemTimers,
  });
  t.teardown(() => {
    reports.close();
    client.close();
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) {
      await new Promise<void>((resolve) => {
        applied = resolve;
      });
    }
  };
  client.start();
  await until(() => client.state !== null);
  const shown = async () => {
    const answer = await replica.run('key.show', key);
    if (!answer.ok) throw new Error(answer.error.message);
    return answer.value.key.versions[0]?.ivBudget;
  };
  const objectId = client.state?.key('one', 'key')?.versions[0]?.objectId ?? '';
  const reserved = (): number => client.state?.ivBudget(objectId)?.reserved ?? 0;
  const rule = () => client.state?.ivBudget(objectId)?.rule;
  return { replica, serving, until, shown, reserved, rule, objectId };
}

t.test(
  'a key encrypts as often as it may, decrypts ever on, and goes on where its operator lets it',
  async (t) => {
    const { replica, serving, until, shown, reserved, rule } = await node(t);
    const encrypt = () => serving.onKey('key', 'encrypt', encryptRequest('secret'));
    t.match(await shown(), { reserved: 0, unreserved: 0, rule: 'refuse' });
    const first = await encrypt();
    t.equal(first.status, 200);
    await until(() => reserved() > 0);
    t.equal(reserved(), 1 + 4_096, 'a block is reserved behind it');
    t.match(await shown(), { reserved: 1 + 4_096 }, 'and the operator sees it');

    let done = 1;
    let last = first;
    for (; done <= encryptionsMax; done += 1) {
      last = await encrypt();
      if (last.status !== 200) break;
      // What is reserved behind the requests has its turn between them.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    t.equal(done, encryptionsMax, 'not one more than that');
    t.equal(last.status, 400);
    t.match(last.json, { errorName: 'InvalidStateException', errorMessage: /random initialization vectors/ });
    t.equal((await serving.onKey('key', 'decrypt', decryptRequest(first.json))).status, 200);
    t.equal(
      (await serving.onKey('encrypt-only', 'encrypt', encryptRequest('secret'))).status,
      200,
      'others encrypt',
    );
    t.match(await shown(), { reserved: 1 + 2 * 4_096 }, 'a block that ends beyond is counted whole');

    const set = await replica.run('key.set', { ...key, ivBudget: 'continue' });
    t.match(set, { ok: true, value: { key: { versions: [{ ivBudget: { rule: 'continue' } }] } } });
    await until(() => rule() === 'continue');
    // What lay beyond the budget in its last block is of use now; then another one is counted.
    for (let more = 0; more < 4_096; more += 1) {
      t.equal((await encrypt()).status, 200);
      if (reserved() > 1 + 2 * 4_096) break;
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
    await until(() => reserved() > 1 + 2 * 4_096);
    t.pass('and it is still counted');
  },
);

t.test('what other processes have reserved counts here', async (t) => {
  const { replica, serving, until, reserved, objectId } = await node(t);
  const atMs = replica.now.wallMs;
  await replica.log.propose(
    encodeCommand({
      type: 'iv.reserve',
      requestId: requestIdAt(atMs),
      atMs,
      by: 'xksd',
      holder: 'another process',
      reservations: [{ objectId, used: encryptionsMax, ahead: 0 }],
    }),
  );
  await until(() => reserved() === encryptionsMax);
  const refused = await serving.onKey('key', 'encrypt', encryptRequest('secret'));
  t.match(refused, { status: 400, json: { errorName: 'InvalidStateException' } });
  t.strictSame(serving.crypto.encrypts, [], 'no HSM was asked');
});
