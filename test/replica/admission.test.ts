import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { err } from '../../src/base/result.js';
import { Admission, type AdmissionOptions } from '../../src/replica/admission.js';
import { clusterState } from '../support/cluster-state.js';
import { foundedReplica } from './replica-at-seams.js';

t.test('a joiner that is fenced off asks nobody any more, neither now nor after a restart', async (t) => {
  const standing: { fence: string | null } = { fence: null };
  let asked = 0;
  const { proposer } = await foundedReplica(t);
  const options = {
    config: { cluster: { advertise: 'node-3:7443' } },
    opened: {
      directory: {
        identity: {
          ...{ role: 'joiner', nodeName: 'node-3', memberId: 'id-node-3', clusterId: 'cluster-before' },
          join: { joinSecret: '00', peers: [{ name: 'node-2', address: 'node-2:7443' }] },
        },
      },
      machine: { state: clusterState([]).keyState },
      peers: {
        join: async () => {
          asked += 1;
          if (asked === 2) standing.fence = 'left behind';
          return err('this is another cluster');
        },
      },
    },
    standing,
    proposer,
    wait: async () => true,
    logger: silentLogger,
  } as unknown as AdmissionOptions;
  const admission = new Admission(options);
  await admission.run();
  t.equal(asked, 2);
  t.match(admission.problem, /node-2 .* does not let this node in: this is another cluster/);
  await new Admission(options).run();
  t.equal(asked, 2);
});
