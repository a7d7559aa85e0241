import type { Test } from 'tap';
import type { AppliedEntry, OrderedLog } from '../../src/replication/ordered-log.js';
import { raftLogLimits } from '../../src/replication/raft-log-limits.js';
import { ListMachine } from '../support/list-machine.js';

export interface OpenedForCompliance {
  readonly log: OrderedLog<number>;
  /** Makes the engine append an entry of its own. */
  readonly appendOwn?: () => Promise<void>;
  /** Makes the engine take over a snapshot of these commands as of this index, from another member. */
  readonly restore?: (index: number, commands: readonly Uint8Array[]) => Promise<void>;
}

/**
 * What every ordered log does, whatever its engine. `open` gives an empty one above `machine`. Indexes rise by one from
 * entry to entry, but not all entries are commands: no test may take an index for a place.
 */
export function orderedLogCompliance(
  t: Test,
  name: string,
  open: (t: Test, machine: ListMachine) => Promise<OpenedForCompliance>,
  /** What a test can make its engine do. */
  abilities: readonly ('appendOwn' | 'restore')[] = [],
): void {
  const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');
  const textOf = ({ command }: AppliedEntry<number>): string => Buffer.from(command).toString('latin1');

  t.test(`${name}: proposals are applied in order and answered with their result`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    t.equal(log.appliedIndex, machine.appliedIndex);
    for (const [place, text] of ['a', 'b', 'c'].entries()) {
      const before = log.appliedIndex;
      const answer = await log.propose(bytes(text));
      if (!answer.ok) throw new Error(answer.error.kind);
      t.ok(answer.value.index > before, 'indexes rise');
      t.equal(answer.value.result, place + 1);
      t.equal(textOf(answer.value), text);
      t.ok(log.appliedIndex >= answer.value.index);
      t.equal(log.appliedIndex, machine.appliedIndex);
    }
    t.strictSame(machine.texts(), ['a', 'b', 'c']);
    await log.close();
  });

  t.test(`${name}: what is proposed at once is applied once each, in the order proposed`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    const texts = Array.from({ length: 200 }, (_, place) => `command ${place}`);
    const answers = await Promise.all(texts.map((text) => log.propose(bytes(text))));
    const indexes = answers.map((answer) => (answer.ok ? answer.value.index : 0));
    t.strictSame(
      indexes.toSorted((left, right) => left - right),
      indexes,
    );
    t.equal(new Set(indexes).size, texts.length);
    t.strictSame(
      answers.map((answer) => answer.ok && answer.value.result),
      texts.map((_, place) => place + 1),
    );
    t.strictSame(machine.texts(), texts);
    await log.close();
  });

  t.test(`${name}: a proposal made when another is answered is not forgotten`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    for (let count = 0; count < 20; count += 1) {
      const answers = await Promise.all([log.propose(bytes('x')), log.propose(bytes('y'))]);
      t.ok(answers.every(({ ok }) => ok));
    }
    t.equal(machine.commands.length, 40);
    await log.close();
  });

  t.test(`${name}: subscribers see every entry from then on, with its application`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    await log.propose(bytes('before'));
    const seen: AppliedEntry<number>[] = [];
    const unsubscribe = log.subscribe({
      onEntry: (entry) => {
        t.equal(entry.index, log.appliedIndex, 'the log stands at this entry');
        t.equal(entry.index, machine.appliedIndex, 'and the state machine too');
        if (entry.result !== null) t.equal(entry.result, machine.commands.length);
        seen.push(entry);
      },
    });
    const first = log.appliedIndex + 1;
    await Promise.all([log.propose(bytes('one')), log.propose(bytes('two'))]);
    t.strictSame(
      seen.map(({ index }) => index),
      seen.map((_, place) => first + place),
      'no entry is left out',
    );
    t.strictSame(seen.filter(({ result }) => result !== null).map(textOf), ['one', 'two']);
    unsubscribe();
    unsubscribe();
    const count = seen.length;
    await log.propose(bytes('after'));
    t.equal(seen.length, count);
    await log.close();
  });

  t.test(
    `${name}: a subscriber may propose, and finds its own proposal after the entry it saw`,
    async (t) => {
      const machine = new ListMachine();
      const { log } = await open(t, machine);
      const answer = new Promise((resolve) => {
        const unsubscribe = log.subscribe({
          onEntry: ({ result }) => {
            if (result === null) return;
            unsubscribe();
            log.propose(bytes('answer')).then(resolve);
          },
        });
      });
      await log.propose(bytes('question'));
      t.match(await answer, { ok: true, value: { result: 2 } });
      t.strictSame(machine.texts(), ['question', 'answer']);
      await log.close();
    },
  );

  t.test(`${name}: a proposer may reuse its buffer`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    const buffer = Buffer.from('first');
    const answer = log.propose(buffer);
    buffer.write('later');
    await answer;
    t.strictSame(machine.texts(), ['first']);
    await log.close();
  });

  t.test(`${name}: a command about members is one as any other`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    const answers = await Promise.all([
      log.propose(bytes('one'), { membership: true }),
      log.propose(bytes('two'), { membership: true }),
      log.propose(bytes('three')),
    ]);
    t.ok(answers.every(({ ok }) => ok));
    t.strictSame(machine.texts().toSorted(), ['one', 'three', 'two']);
    await log.close();
  });

  t.test(`${name}: too long, too many, and empty commands`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    const longest = new Uint8Array(raftLogLimits.commandBytesMax).fill(1);
    t.match(await log.propose(longest), { ok: true });
    const tooLong = new Uint8Array(raftLogLimits.commandBytesMax + 1);
    t.strictSame(await log.propose(tooLong), { ok: false, error: { kind: 'too-large' } });
    t.match(await log.propose(new Uint8Array(0)), { ok: true, value: { result: 2 } });
    const answers = Array.from({ length: raftLogLimits.proposalsMax + 1 }, () => log.propose(bytes('x')));
    t.strictSame(await answers.pop(), { ok: false, error: { kind: 'overloaded' } });
    t.ok((await Promise.all(answers)).every(({ ok }) => ok));
    t.equal(machine.commands.length, 2 + raftLogLimits.proposalsMax);
    await log.close();
  });

  t.test(`${name}: a read index is applied and holds all that was acknowledged before`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    t.match(await log.readIndex(), { ok: true });
    for (let round = 0; round < 5; round += 1) {
      const answer = await log.propose(bytes(`${round}`));
      if (!answer.ok) throw new Error(answer.error.kind);
      const reads = await Promise.all([log.readIndex(), log.readIndex(1_000)]);
      for (const read of reads) {
        if (!read.ok) throw new Error(read.error.reason);
        t.ok(read.value >= answer.value.index, 'not older than what was acknowledged');
        t.ok(read.value <= log.appliedIndex, 'and applied');
      }
    }
    await log.close();
  });

  t.test(`${name}: closing waits for what was proposed, and takes nothing more`, async (t) => {
    const machine = new ListMachine();
    const { log } = await open(t, machine);
    const accepted = [log.propose(bytes('a')), log.propose(bytes('b'))];
    const closed = log.close();
    t.match(await log.propose(bytes('c')), { ok: false, error: { kind: 'closed' } });
    t.match(await log.readIndex(), { ok: false, error: { kind: 'closed' } });
    await closed;
    t.ok((await Promise.all(accepted)).every(({ ok }) => ok));
    await log.close();
    t.strictSame(machine.texts(), ['a', 'b']);
    t.match(await log.propose(bytes('d')), { ok: false, error: { kind: 'closed' } });
  });

  if (abilities.includes('appendOwn')) {
    t.test(`${name}: an entry of the engine's own has an index, no command and no result`, async (t) => {
      const machine = new ListMachine();
      const { log, appendOwn } = await open(t, machine);
      if (appendOwn === undefined) throw new Error('it cannot');
      await log.propose(bytes('before'));
      const seen: AppliedEntry<number>[] = [];
      log.subscribe({ onEntry: (entry) => seen.push(entry) });
      const before = log.appliedIndex;
      await appendOwn();
      t.equal(log.appliedIndex, before + 1);
      t.strictSame(
        seen.map(({ index, command, result }) => [index, command.byteLength, result]),
        [[before + 1, 0, null]],
      );
      t.equal(machine.appliedIndex, before + 1, 'the state machine knows the index');
      t.strictSame(machine.texts(), ['before'], 'and nothing else');
      t.match(await log.propose(bytes('after')), { ok: true, value: { index: before + 2, result: 2 } });
      await log.close();
    });
  }

  if (abilities.includes('restore')) {
    t.test(`${name}: subscribers hear of a snapshot that replaced the state`, async (t) => {
      const machine = new ListMachine();
      const { log, restore } = await open(t, machine);
      if (restore === undefined) throw new Error('it cannot');
      await log.propose(bytes('ours'));
      const heard: unknown[] = [];
      log.subscribe({
        onEntry: ({ index }) => heard.push(['entry', index]),
        onRestore: (index) => heard.push(['restore', index, log.appliedIndex, machine.texts().join()]),
      });
      log.subscribe({ onEntry: () => {} });
      const index = log.appliedIndex + 10;
      await restore(index, [bytes('ours'), bytes('theirs')]);
      await log.propose(bytes('more'));
      t.strictSame(heard.slice(0, 2), [
        ['restore', index, index, 'ours,theirs'],
        ['entry', index + 1],
      ]);
      await log.close();
    });
  }
}
