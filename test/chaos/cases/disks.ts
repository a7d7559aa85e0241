import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { eventually } from '../../support/running-node.js';
import type { CaseContext, ChaosCase } from '../chaos-case.js';
import { keyStoreName } from '../chaos-cluster.js';
import type { ChaosNode } from '../chaos-node.js';
import { armKill, disarmKill, isArmed, killPoints } from '../kill-shim.js';
import { replicaBack } from './kills.js';
import { rejoin } from './members.js';

/** Bytes written on while a disk is full, in requests. */
const servedWhileBroken = 200;
const pointTimeoutMs = 12_000;
/** Through the points that no process has reached yet, although the time is up. */
const missedTurnsMax = 3;

/** Through each step of persistence, on whichever node: what it acknowledged must be there when it comes back. */
export const killPointsCase: ChaosCase = {
  name: 'kill-points',
  nodes: 3,
  seconds: 60,
  async run({ cluster, random, note, check, deadlineMs }: CaseContext) {
    const reached = new Map<string, number>();
    const missed = (): readonly string[] => killPoints.filter((point) => !reached.has(point));
    let turns = 0;
    do {
      for (const point of killPoints) {
        if (turns > 0 && performance.now() >= deadlineMs && reached.has(point)) continue;
        const node = random.pick(cluster.nodes);
        let [pid] = node.processes('replica');
        armKill(node, point, /create|rename/.test(point) ? 1 : 1 + random.integer(4));
        // Files are made and renamed when a replica has started, and then once in a while only.
        if (/create|rename/.test(point)) {
          node.signal('replica', 'SIGKILL');
          await replicaBack(node, pid ?? 0);
          [pid] = node.processes('replica');
        }
        const endMs = performance.now() + pointTimeoutMs;
        while (isArmed(node) && performance.now() < endMs) await delay(20);
        if (!isArmed(node)) {
          reached.set(point, (reached.get(point) ?? 0) + 1);
          await replicaBack(node, pid ?? 0);
        }
        disarmKill(node);
      }
      turns += 1;
    } while (performance.now() < deadlineMs || (turns < missedTurnsMax && missed().length > 0));
    const counts = [...reached].map(([point, count]) => `${point} ${count}`).join(', ');
    note(`${turns} times through ${killPoints.length} points: ${counts}`);
    check(missed().length === 0, `not reached: ${missed().join(', ')}`);
  },
};

export const fullDisk: ChaosCase = {
  name: 'full-disk',
  nodes: 3,
  seconds: 30,
  async run({ cluster, note, check, history }: CaseContext) {
    const { disk } = cluster;
    if (disk === null)
      throw new Error('this user may not mount a small file system: run it as root, or with sudo -n');
    const node = cluster.nodes.find(({ dataDir }) => dataDir === disk.directory);
    if (node === undefined) throw new Error('no node has the small disk');
    const [pid = 0] = node.processes('replica');
    const from = node.logEnd();
    disk.fill();
    await eventually('its replication stops', () => node.hasHalted(), node.demo.logFile);
    history.avoid(node);
    await cluster.load.afterMore(servedWhileBroken);
    check(
      /ENOSPC|no space|No space/.test(node.log(from)),
      `the log of ${node.name} does not say that the disk is full`,
    );
    check((await node.health()) === 200, `${node.name} does not serve while its disk is full`);
    check(node.processes('replica').includes(pid), `the replica of ${node.name} was started on a full disk`);
    const fullMs = performance.now();
    disk.free();
    await eventually('a replica again', () => node.replicates(), node.demo.logFile);
    note(`back ${((performance.now() - fullMs) / 1_000).toFixed(1)} s after there was room again`);
    history.unavoid(node);
  },
};

/** The segment that is written to. */
function newestSegment(node: ChaosNode): string {
  const names = readdirSync(join(node.dataDir, 'log')).sort();
  return join(node.dataDir, 'log', names.at(-1) ?? '');
}

function flipByte(path: string): number {
  const bytes = readFileSync(path);
  let end = bytes.byteLength;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  // Not in the last record: that could be a write that a crash has torn.
  const at = Math.floor(end / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  writeFileSync(path, bytes);
  return at;
}

/** What its supervisor and replica say when they cannot go on. */
const refusalOf = (log: string): string => {
  const lines = log.split('\n').filter((line) => /cannot go on|"reason"|damaged/.test(line));
  const found = lines.find((line) => line.includes('cannot go on')) ?? lines.at(-1) ?? '';
  return /"reason":"((?:[^"\\]|\\.)*)"/.exec(found)?.[1] ?? found;
};

export const corruptByte: ChaosCase = {
  name: 'corrupt-byte',
  nodes: 3,
  seconds: 40,
  async run(context: CaseContext) {
    const { cluster, note, check, random, history } = context;
    const node = random.pick(cluster.nodes);
    const [pid] = node.processes('replica');
    const from = node.logEnd();
    const at = flipByte(newestSegment(node));
    node.signal('replica', 'SIGKILL');
    history.avoid(node);
    await eventually(
      'the replica refuses',
      () => node.log(from).includes('child cannot go on'),
      node.demo.logFile,
    );
    note(`byte ${at} flipped under pid ${pid}: ${refusalOf(node.log(from))}`);
    check(/damage|corrupt|checksum/i.test(refusalOf(node.log(from))), 'the refusal does not name the damage');
    await cluster.load.afterMore(servedWhileBroken);
    check((await node.health()) === 200, `${node.name} does not serve with what it knows`);

    // Started anew it has nothing to serve by, and must say so instead of making it up.
    const over = cluster.load.expect(
      ['connection', 'unavailable'],
      'a node was ended, or just started without what it needs, and the balancer had not seen it',
    );
    await node.killAll();
    const again = node.logEnd();
    node.start();
    await node.demo.exitCode;
    check(
      /damage|corrupt|checksum/i.test(node.log(again)),
      'a start on a damaged log does not name the damage',
    );
    await rejoin(context, node);
    over();
    history.unavoid(node);
  },
};

const emptied = (directory: string): void => {
  for (const name of readdirSync(directory)) rmSync(join(directory, name), { recursive: true, force: true });
};

export const wipedDirectory: ChaosCase = {
  name: 'wiped-directory',
  nodes: 3,
  seconds: 50,
  async run(context: CaseContext) {
    const { cluster, note, check, random, history } = context;
    const node = random.pick(cluster.nodes);
    history.avoid(node);
    const over = cluster.load.expect(
      ['connection', 'unavailable'],
      'a node was ended, or just started without what it needs, and the balancer had not seen it',
    );
    await node.killAll();
    const old = `${node.dataDir}-old`;
    cpSync(node.dataDir, old, { recursive: true });

    emptied(node.dataDir);
    const from = node.logEnd();
    node.start();
    await node.demo.exitCode;
    const refusal =
      node
        .log(from)
        .split('\n')
        .find((line) => line.includes('is empty')) ?? '';
    note(`wiped: ${refusal}`);
    check(refusal !== '', 'a node with an empty directory does not say so');

    // An old copy is worse: it looks like a member, and has forgotten what it promised.
    cpSync(old, node.dataDir, { recursive: true });
    node.start();
    await eventually(`${node.name} is back`, async () => (await node.status()) !== null, node.demo.logFile);
    const { node: leader } = await cluster.leader();
    for (let turn = 0; turn < 3; turn += 1) {
      await leader.xksctl('keystore', 'set', keyStoreName, '--on-isolation', 'serve');
    }
    await caughtUp(context, node);
    await node.killAll();
    emptied(node.dataDir);
    cpSync(old, node.dataDir, { recursive: true });
    rmSync(old, { recursive: true, force: true });
    node.start();
    await eventually('the leader notices the old copy', async () => {
      const { status } = await cluster.leader(cluster.others(node)).catch(() => ({ status: null }));
      const findings = status?.members.find(({ name }) => name === node.name)?.findings ?? [];
      return findings.some((finding) => finding.includes('ends before'));
    });
    note('rolled back: noticed by the leader');
    await node.killAll();
    await rejoin(context, node);
    over();
    history.unavoid(node);
  },
};

async function caughtUp({ cluster }: CaseContext, node: ChaosNode): Promise<void> {
  await eventually(`${node.name} has caught up`, async () => {
    const { status } = await cluster.leader();
    const own = await node.status();
    return own !== null && own.appliedIndex >= status.commitIndex;
  });
}
