import t from 'tap';
import { PeerDirectory } from '../../src/replica/peer-directory.js';
import { clusterState } from '../support/cluster-state.js';

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
