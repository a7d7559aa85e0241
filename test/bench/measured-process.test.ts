import { join } from 'node:path';
import t, { type Test } from 'tap';
import { MeasuredProcess } from '../../bench/ladder/measured-process.js';
import { servingNodeOptions } from '../../src/cli/serving-node-options.js';

type Answer = { readonly told: string; readonly nodeOptions: readonly string[]; readonly given: string };

/** A process that does as `onOrder` says, JavaScript over `order`. */
function measured(t: Test, onOrder: string): MeasuredProcess<string, Answer> {
  const directory = t.testdir({ 'part.mjs': `process.once('message', (order) => { ${onOrder} });` });
  const process = new MeasuredProcess<string, Answer>({
    what: 'the part',
    program: join(directory, 'part.mjs'),
    environment: { XKSD_TEST_GIVEN: 'yes' },
    logFile: join(directory, 'log'),
  });
  t.teardown(() => process.end());
  return process;
}

const answer =
  'process.send({ told: order, nodeOptions: process.execArgv, given: process.env.XKSD_TEST_GIVEN });';
const forever = () => new Promise<never>(() => {});

t.test('it runs as a serving process does', async (t) => {
  const { told, nodeOptions, given } = await measured(t, answer).ask('order');
  t.strictSame([told, given], ['order', 'yes']);
  t.ok(servingNodeOptions.length > 0);
  t.strictSame(nodeOptions.slice(0, servingNodeOptions.length), servingNodeOptions);
});

t.test('one that ends instead of answering says how, and may be ended again', async (t) => {
  for (const [deed, how] of [
    ['process.exit(3);', 'the part ended with 3'],
    ["process.kill(process.pid, 'SIGKILL');", 'the part ended with SIGKILL'],
  ] as const) {
    const process = measured(t, deed);
    await t.rejects(process.ask('order'), { message: how });
    await process.end();
    await t.rejects(process.ask('another'), { message: how });
  }
});

t.test('its end is the cause of whatever else fails', async (t) => {
  const process = measured(t, `${answer} setImmediate(() => process.exit(4));`);
  await process.ask('order');
  await t.rejects(process.during(forever()), { message: 'the part ended with 4' });
  const lost = Promise.reject(new Error('the connection is lost'));
  await t.rejects(process.during(lost), { message: 'the part ended with 4' });
});

t.test('one that is ended on purpose has not failed', async (t) => {
  const process = measured(t, answer);
  await process.ask('order');
  t.equal(await process.during(Promise.resolve(5)), 5);
  // A rejection that nobody looks at would fail this test.
  await process.end();
  await process.end();
  await measured(t, answer).end();
  await new Promise(setImmediate);
});
