import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Authority,
  makeCertificateAuthority,
  makeNodeCertificate,
} from '../../../src/demo/certificates.js';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';

const reloaded = 'cluster certificates reloaded';
/** A busy machine may hold an election of its own: it is the certificates' only when it comes every time. */
const rotationsMax = 3;

function replace(path: string, bytes: string | Buffer): void {
  writeFileSync(`${path}.new`, bytes, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export const rotateAuthority: ChaosCase = {
  name: 'rotate-ca',
  nodes: 3,
  seconds: 45,
  async run(context: CaseContext) {
    const { cluster, note, check } = context;
    let elections = 0;
    for (let turn = 1; turn <= rotationsMax; turn += 1) {
      const { status: before } = await cluster.leader();
      await rotate(context, turn);
      const { status: after } = await cluster.leader();
      elections = after.term - before.term;
      note(`CA ${turn} → ${turn} + ${turn + 1} → ${turn + 1}: terms ${before.term} to ${after.term}`);
      if (elections === 0) break;
    }
    check(elections === 0, 'every rotation cost an election');
  },
};

async function rotate({ cluster, check }: CaseContext, turn: number): Promise<void> {
  const directory = join(cluster.directory, 'cluster-tls');
  const caFile = join(directory, 'ca.pem');
  const scratch = join(directory, `ca-${turn + 1}`);
  mkdirSync(scratch, { recursive: true });
  const next: Authority = await makeCertificateAuthority(scratch);
  const nextCertificate = readFileSync(next.caCertificate);

  const everywhere = async (what: string, change: () => Promise<void> | void): Promise<void> => {
    const from = cluster.nodes.map((node) => node.logEnd());
    await change();
    await eventually(what, () =>
      cluster.nodes.every((node, place) => node.log(from[place]).includes(reloaded)),
    );
  };
  await everywhere('both authorities are trusted', () =>
    replace(caFile, Buffer.concat([readFileSync(caFile), nextCertificate])),
  );
  await everywhere('certificates of the new authority', async () => {
    for (const { name } of cluster.nodes) {
      const leaf = await makeNodeCertificate(scratch, name, next);
      replace(join(directory, `${name}.key`), readFileSync(leaf.key));
      replace(join(directory, `${name}.pem`), readFileSync(leaf.certificate));
    }
  });
  await everywhere('only the new authority is trusted', () => replace(caFile, nextCertificate));
  await eventually('everybody hears everybody', async () => {
    const statuses = await Promise.all(cluster.nodes.map((node) => node.status()));
    return statuses.every(
      (status) =>
        status?.members.every(({ isSelf, heardMsAgo }) => isSelf || (heardMsAgo ?? 9e9) < 3_000) === true,
    );
  });
  check(readFileSync(caFile).equals(nextCertificate), 'the old authority is still in the file');
}
