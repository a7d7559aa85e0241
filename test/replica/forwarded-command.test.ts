import t from 'tap';
import { readForwarded } from '../../src/replica/forwarded-command.js';
import { requestIdAt, startMs } from '../support/founded-cluster.js';

const requestId = requestIdAt(startMs);
const content = { uid: 0, requestId, body: { name: 'node-3' } };

t.test('what only the leader can decide is done for another node, and says who asked', async (t) => {
  for (const command of ['cluster.promote', 'cluster.remove', 'cluster.transfer', 'cluster.upgrade']) {
    t.strictSame(readForwarded('node-2', command, content), {
      ok: true,
      value: { body: { name: 'node-3' }, caller: { uid: null, by: 'uid=0 on node-2', requestId } },
    });
  }
});

t.test('nothing else is: a node has no more rights on others than that', async (t) => {
  for (const command of [
    'key.enable',
    'credential.create',
    'cluster.add',
    'cluster.forget',
    'toString',
    '',
  ]) {
    t.match(readForwarded('node-2', command, content), {
      ok: false,
      error: { code: 'bad-request', message: /is not done for other nodes/ },
    });
  }
  const malformed = [
    null,
    'remove',
    { ...content, uid: -1 },
    { ...content, requestId: 'no id' },
    { ...content, by: 'somebody else' },
  ];
  for (const each of malformed) {
    t.match(readForwarded('node-2', 'cluster.remove', each), { ok: false, error: { code: 'bad-request' } });
  }
});
