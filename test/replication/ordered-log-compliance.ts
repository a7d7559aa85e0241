import type { Test } from 'tap';
import { logOfOneLimits } from '../../src/replication/log-of-one.js';
import type { AppliedEntry, OrderedLog } from '../../src/replication/ordered-log.js';
import { ListMachine } from '../support/list-machine.js';

/** What every ordered log does, whatever its engine. `open` gives an empty one above `machine`. */
export function orderedLogCompliance(
  t: Test,
  name: string,
  open: (t: Test, machine: ListMachine) => Promise<OrderedLog<number>>,
): void {
  const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');

  t.test(
    `${name}: proposals are applied in order, without gaps, and answered with their result`,
    async (t) => {
      const machine = new ListMachine();
      const log = await open(t, machine);
      t.equal(log.appliedIndex, 0);
      for (const [place, text] of ['a', 'b', 'c'].entries()) {
        const answer = await log.propose(bytes(text));
        t.match(answer, { ok: true, value: { index: place + 1, result: place + 1 } });
        t.equal(log.appliedIndex, place + 1);
      }
      t.strictSame(machine.texts(), ['a', 'b', 'c']);
      await log.close();
    },
  );

  t.test(`${name}: what is proposed at once is applied once each, in the order proposed`, async (t) => {
    const machine = new ListMachine();
    const log = await open(t, machine);
    const texts = Array.from({ length: 200 }, (_, place) => `command ${place}`);
    const answers = await Promise.all(texts.map((text) => log.propose(bytes(text))));
    t.strictSame(
      answers.map((answer) => answer.ok && answer.value.index),
      texts.map((_, place) => place + 1),
    );
    t.strictSame(machine.texts(), texts);
    await log.close();
  });

  t.test(`${name}: a proposal made when another is answered is not forgotten`, async (t) => {
    const log = await open(t, new ListMachine());
    for (let count = 0; count < 20; count += 1) {
      const answers = await Promise.all([log.propose(bytes('x')), log.propose(bytes('y'))]);
      t.ok(answers.every(({ ok }) => ok));
    }
    t.equal(log.appliedIndex, 40);
    await log.close();
  });

  t.test(`${name}: subscribers see every entry from then on, with its application`, async (t) => {
    const machine = new ListMachine();
    const log = await open(t, machine);
    await log.propose(bytes('before'));
    const seen: AppliedEntry<number>[] = [];
    const unsubscribe = log.subscribe((entry) => {
      t.equal(entry.index, log.appliedIndex, 'the log stands at this entry');
      t.equal(entry.result, machine.commands.length, 'and the state machine too');
      seen.push(entry);
    });
    await Promise.all([log.propose(bytes('one')), log.propose(bytes('two'))]);
    t.strictSame(
      seen.map(({ index, command }) => [index, Buffer.from(command).toString('latin1')]),
      [
        [2, 'one'],
        [3, 'two'],
      ],
    );
    unsubscribe();
    await log.propose(bytes('after'));
    t.equal(seen.length, 2);
    await log.close();
  });

  t.test(`${name}: a proposer may reuse its buffer`, async (t) => {
    const machine = new ListMachine();
    const log = await open(t, machine);
    const buffer = Buffer.from('first');
    const answer = log.propose(buffer);
    buffer.write('later');
    await answer;
    t.strictSame(machine.texts(), ['first']);
    await log.close();
  });

  t.test(`${name}: too long, too many, and empty commands`, async (t) => {
    const machine = new ListMachine();
    const log = await open(t, machine);
    const longest = new Uint8Array(logOfOneLimits.commandBytesMax).fill(1);
    t.match(await log.propose(longest), { ok: true });
    const tooLong = new Uint8Array(logOfOneLimits.commandBytesMax + 1);
    t.strictSame(await log.propose(tooLong), { ok: false, error: { kind: 'too-large' } });
    t.match(await log.propose(new Uint8Array(0)), { ok: true });
    const answers = Array.from({ length: logOfOneLimits.proposalsMax + 1 }, () => log.propose(bytes('x')));
    t.strictSame(await answers.pop(), { ok: false, error: { kind: 'overloaded' } });
    t.ok((await Promise.all(answers)).every(({ ok }) => ok));
    t.equal(log.appliedIndex, 2 + logOfOneLimits.proposalsMax);
    await log.close();
  });

  t.test(`${name}: closing waits for what was proposed, and takes nothing more`, async (t) => {
    const machine = new ListMachine();
    const log = await open(t, machine);
    const accepted = [log.propose(bytes('a')), log.propose(bytes('b'))];
    const closed = log.close();
    t.match(await log.propose(bytes('c')), { ok: false, error: { kind: 'closed' } });
    await closed;
    t.ok((await Promise.all(accepted)).every(({ ok }) => ok));
    await log.close();
    t.strictSame(machine.texts(), ['a', 'b']);
    t.match(await log.propose(bytes('d')), { ok: false, error: { kind: 'closed' } });
  });
}
