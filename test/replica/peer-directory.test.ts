import t from 'tap';
import { membersOf, PeerDirectory } from '../../src/replica/peer-directory.js';
import type { NodeReport } from '../../src/replication/peer-message.js';
import { type ClusterState, clusterState } from '../support/cluster-state.js';

const names = (directory: PeerDirectory): readonly string[] => directory.addresses().map(({ name }) => name);

t.test('members are who key state says, by the name in their certificate', async (t) => {
  const state = clusterState(['one', 'two', 'three']);
  const directory = new PeerDirectory(() => state.keyState);
  t.strictSame(names(directory), ['one', 'two', 'three']);
  t.strictSame(directory.authorize('id-two', ['two', 'alias']), { ok: true });
  t.strictSame(directory.authorize('id-two', ['three']), { ok: false, reason: 'wrong-name' });
  t.strictSame(directory.authorize('id-four', ['four']), { ok: false, reason: 'unknown' });
});

t.test('one who is invited only is no member yet; one who was removed is told so', async (t) => {
  const state = clusterState(['one', 'two']);
  const directory = new PeerDirectory(() => state.keyState);
  state.invite('three');
  t.strictSame(names(directory), ['one', 'two']);
  t.strictSame(directory.authorize('id-three', ['three']), { ok: false, reason: 'unknown' });
  state.remove('two');
  t.strictSame(directory.authorize('id-two', ['two']), { ok: false, reason: 'removed' });
  t.strictSame(names(directory), ['one']);
});

t.test(
  'a node that joins hears those whom the answer named, until key state says who is a member',
  async (t) => {
    const state = clusterState([]);
    const directory = new PeerDirectory(() => state.keyState);
    t.strictSame(names(directory), []);
    directory.introduced([{ memberId: 'id-one', name: 'one', address: 'one:7443' }]);
    t.strictSame(names(directory), ['one']);
    t.strictSame(directory.authorize('id-one', ['one']), { ok: true });
    t.strictSame(directory.authorize('id-one', ['two']), { ok: false, reason: 'wrong-name' });
    const joined = clusterState(['two']);
    const later = new PeerDirectory(() => joined.keyState);
    later.introduced([{ memberId: 'id-one', name: 'one', address: 'one:7443' }]);
    t.strictSame(names(later), ['two']);
    t.strictSame(later.authorize('id-one', ['one']), { ok: true }, 'key state may still be catching up');
  },
);

/** What a member says that has applied all of `state`. */
const report = ({ keyState }: ClusterState): NodeReport => ({
  nodeName: 'n',
  version: '0.0.0',
  formatMax: 2,
  configHash: 'c',
  wallMs: 0,
  appliedIndex: keyState.appliedIndex,
  servingAppliedIndex: 0,
  readyServingProcesses: 1,
  stateHashes: [],
  members: membersOf(keyState),
});

const places = (directory: PeerDirectory): Readonly<Record<string, string>> =>
  Object.fromEntries(directory.addresses().map(({ name, address }) => [name, address]));

t.test('a node that was off finds and hears those whom a member names that knows more', async (t) => {
  const behind = clusterState(['one', 'two']);
  const directory = new PeerDirectory(() => behind.keyState);
  const ahead = clusterState(['one', 'two', 'three', 'four']);
  ahead.remove('four');
  directory.reported('id-two', report(ahead));
  t.strictSame(names(directory), ['one', 'two', 'three']);
  t.strictSame(directory.authorize('id-three', ['three']), { ok: true });
  t.strictSame(directory.authorize('id-three', ['four']), { ok: false, reason: 'wrong-name' });
  t.strictSame(directory.authorize('id-four', ['four']), { ok: false, reason: 'unknown' });
  // A later list takes the place of the earlier.
  ahead.remove('three');
  directory.reported('id-two', report(ahead));
  t.strictSame(names(directory), ['one', 'two']);
  t.strictSame(directory.authorize('id-three', ['three']), { ok: false, reason: 'unknown' });
});

t.test('where a member is, it says itself and nobody else', async (t) => {
  const behind = clusterState(['one', 'two', 'three']);
  const directory = new PeerDirectory(() => behind.keyState);
  const ahead = clusterState(['one', 'two', 'three']);
  ahead.move('three', 'elsewhere:7443');
  directory.reported('id-two', report(ahead));
  t.match(places(directory), { two: 'two:7443', three: 'three:7443' });
  directory.reported('id-three', report(ahead));
  t.match(places(directory), { two: 'two:7443', three: 'elsewhere:7443' });
});

t.test('nobody is believed who knows no more than this node', async (t) => {
  const here = clusterState(['one', 'two', 'three', 'four']);
  const directory = new PeerDirectory(() => here.keyState);
  const ahead = clusterState(['one', 'two', 'three', 'four', 'five']);
  const { appliedIndex } = here.keyState;
  const told = { ...report(ahead), appliedIndex };
  directory.reported('id-two', told);
  t.strictSame(names(directory), ['one', 'two', 'three', 'four']);
  t.strictSame(directory.authorize('id-five', ['five']), { ok: false, reason: 'unknown' });
  ahead.move('two', 'elsewhere:7443');
  directory.reported('id-two', { ...report(ahead), appliedIndex });
  t.match(places(directory), { two: 'two:7443' });
  here.remove('four');
  directory.reported('id-two', { ...told, appliedIndex: appliedIndex + 2 });
  t.strictSame(names(directory), ['one', 'two', 'three', 'five'], 'who was removed here does not come back');
  t.strictSame(directory.authorize('id-four', ['four']), { ok: false, reason: 'removed' });
  here.invite('six');
  t.strictSame(names(directory), ['one', 'two', 'three'], 'key state here has come as far');
});
