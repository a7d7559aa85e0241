import t from 'tap';
import { clusterLimits } from '../../src/keystate/cluster-types.js';
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

const at = (name: string) => ({ memberId: `id-${name}`, name, address: `${name}:7443` });

t.test('nobody goes on vouching once it was removed, nor vouches for itself', async (t) => {
  const here = clusterState(['one', 'two', 'three']);
  const directory = new PeerDirectory(() => here.keyState);
  // A member that is about to be removed names itself once more, under another id.
  const alias = { ...at('three'), memberId: 'id-x' };
  const endless = { ...report(here), appliedIndex: Number.MAX_SAFE_INTEGER, members: [alias] };
  directory.reported('id-three', endless);
  t.strictSame(directory.authorize('id-x', ['three']), { ok: true }, 'a member is believed');
  directory.reported('id-x', endless);
  here.remove('three');
  t.strictSame(directory.authorize('id-three', ['three']), { ok: false, reason: 'removed' });
  t.strictSame(directory.authorize('id-x', ['three']), { ok: false, reason: 'unknown' });
  t.strictSame(names(directory), ['one', 'two']);
  directory.reported('id-x', endless);
  t.strictSame(directory.authorize('id-x', ['three']), { ok: false, reason: 'unknown' });
});

t.test('who is only named by others says where it is itself, and names nobody', async (t) => {
  const behind = clusterState(['one', 'two']);
  const directory = new PeerDirectory(() => behind.keyState);
  const ahead = clusterState(['one', 'two', 'three']);
  directory.reported('id-two', report(ahead));
  const moved = { ...at('three'), address: 'elsewhere:7443' };
  directory.reported('id-three', { ...report(ahead), members: [moved, at('four')] });
  t.strictSame(places(directory), { one: 'one:7443', two: 'two:7443', three: 'elsewhere:7443' });
  t.strictSame(directory.authorize('id-four', ['four']), { ok: false, reason: 'unknown' });
});

t.test('a node whose disk was lost, and that is another member since, is heard', async (t) => {
  const behind = clusterState(['one', 'two', 'three']);
  const directory = new PeerDirectory(() => behind.keyState);
  const anew = { ...at('three'), memberId: 'id-three-anew' };
  const told = { ...report(behind), appliedIndex: 1_000, members: [at('one'), at('two'), anew] };
  directory.reported('id-two', told);
  t.strictSame(directory.authorize('id-three-anew', ['three']), { ok: true });
  behind.remove('three');
  t.strictSame(directory.authorize('id-three-anew', ['three']), { ok: true });
});

t.test('those who let this node in are believed until key state here says who they are', async (t) => {
  const here = clusterState(['one']);
  const directory = new PeerDirectory(() => here.keyState);
  directory.introduced([at('one'), at('two')]);
  directory.reported('id-two', { ...report(here), appliedIndex: 1_000, members: [at('two'), at('three')] });
  t.strictSame(names(directory), ['one', 'two', 'three']);
  here.invite('two');
  here.join('two');
  t.strictSame(directory.authorize('id-two', ['two']), { ok: true });
  here.remove('two');
  t.strictSame(directory.authorize('id-two', ['two']), { ok: false, reason: 'removed' });
  // Key state forgets it in the end.
  for (let number = 0; number <= clusterLimits.formerMembersMax; number += 1) {
    here.apply({ type: 'member.forget', member: number === 0 ? 'id-two' : `id-${number}`, destroyed: true });
    here.invite(`${number + 1}`);
    here.join(`${number + 1}`);
    here.remove(`${number + 1}`);
  }
  t.strictSame(directory.authorize('id-two', ['two']), { ok: false, reason: 'unknown' });
  t.strictSame(names(directory), ['one']);
});

t.test(
  'however many have come and gone, a member is heard; and no more than a cluster has are named',
  async (t) => {
    const here = clusterState(['one', 'two']);
    const directory = new PeerDirectory(() => here.keyState);
    const told = { ...report(here), appliedIndex: 1_000 };
    for (let number = 0; number < 100; number += 1) {
      const passing = at(`passing-${number}`);
      directory.reported('id-two', { ...told, members: [passing] });
      directory.reported(passing.memberId, { ...told, members: [passing] });
    }
    directory.reported('id-two', { ...told, members: [at('three')] });
    t.strictSame(names(directory), ['one', 'two', 'three']);
    const many = Array.from({ length: 200 }, (_, number) => at(`many-${number}`));
    directory.reported('id-two', { ...told, members: many });
    t.equal(names(directory).length, 2 + clusterLimits.membersMax);
    t.strictSame(directory.authorize('id-many-0', ['many-0']), { ok: true });
    t.strictSame(directory.authorize('id-many-199', ['many-199']), { ok: false, reason: 'unknown' });
  },
);
