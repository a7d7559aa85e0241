import t from 'tap';
import { startReplica } from './replica-process.js';

t.test('SIGUSR1 opens no inspector', async (t) => {
  const { replica } = await startReplica(t);
  replica.child.kill('SIGUSR1');
  // Its loop has turned many times after the signal.
  for (let asked = 0; asked < 20; asked += 1) await replica.metrics();
  await replica.kill();
  t.notMatch(replica.log, /Debugger listening/);
});
