import type { GrantType } from '../../src/keystate/cluster-types.js';
import { mintRequestId, requestIdRandomBytes } from '../../src/keystate/request-id.js';
import type { Command } from '../../src/keystate/types.js';
import { randomCommand } from './commands.js';
import type { SeededRandom } from './seeded-random.js';

type Body<C> = C extends Command ? Omit<C, 'requestId' | 'atMs' | 'by'> : never;

const stores = ['prod', 'test', 'x'];
const memberIds = ['m-0', 'm-1', 'm-2', 'm-3', 'm-4'];
const nodes = ['node-0', 'node-1', 'node-2', 'node-3'];
const addresses = ['a.example:7946', '[2001:db8::1]:7946'];
const objects = ['0000', '0010', '0020', '0030', '0040', '0050'];
const secrets = ['0a', '0b'].map((byte) => byte.repeat(32));
const grantTypes: readonly GrantType[] = [
  'keystore.create',
  'keystore.enable',
  'keystore.set',
  'credential.create',
  'key.create',
  'key.enable',
];
const hourMs = 3_600_000;

/**
 * Commands of every type in a cluster of format 4, out of few names; some are repeated under their request id, some
 * come late, and once in a while a clock is far ahead.
 */
export class RandomHistory {
  readonly #random: SeededRandom;
  #reservations = 0;
  readonly #recent: Command[] = [];
  #nowMs = 1_760_000_000_000;
  #count = 0;

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  next(): Command {
    const random = this.#random;
    this.#count += 1;
    this.#nowMs += random.integer(random.integer(20) === 0 ? 8 * hourMs : 2_000);
    const again = random.integer(8) === 0 ? this.#repeat() : null;
    if (again !== null) return again;
    const skewMs = random.integer(40) === 0 ? random.pick([-30 * hourMs, 900_000 * hourMs]) : 0;
    const atMs = this.#nowMs + skewMs;
    const requestId = mintRequestId(atMs, random.bytes(requestIdRandomBytes));
    const body = this.#count === 1 ? founding : this.#body(atMs);
    const command = { ...body, requestId, atMs, by: 'uid=0' } as Command;
    this.#recent.push(command);
    if (this.#recent.length > 60) this.#recent.shift();
    return command;
  }

  #repeat(): Command | null {
    const random = this.#random;
    if (this.#recent.length === 0) return null;
    const earlier = random.pick(this.#recent);
    return random.integer(2) === 0 ? earlier : { ...earlier, atMs: this.#nowMs };
  }

  #body(atMs: number): Body<Command> {
    const random = this.#random;
    if (random.integer(3) === 0) return this.#clusterBody(atMs);
    return random.integer(12) === 0 ? this.#ivBody() : randomCommand(random);
  }

  #ivBody(): Body<Command> {
    const random = this.#random;
    if (random.integer(3) === 0) {
      const keyStore = random.pick(stores);
      const externalKeyId = random.pick(['alpha', 'beta', 'gamma']);
      return { type: 'key.set', keyStore, externalKeyId, ivBudget: random.pick(['refuse', 'continue']) };
    }
    const holder = random.pick(['p-1', 'p-2']);
    const ahead = random.pick([0, 4_096, 4_095]);
    const reservations = [{ objectId: random.pick(objects), used: random.integer(3) * 100, ahead }];
    if (random.integer(2) === 0) reservations.push({ objectId: '0080', used: 0, ahead: 65_536 });
    this.#reservations += 1;
    const sequence = this.#reservations % 9;
    // Some come again, some carry no number.
    return sequence === 0
      ? { type: 'iv.reserve', holder, reservations }
      : { type: 'iv.reserve', holder, sequence, reservations };
  }

  #clusterBody(atMs: number): Body<Command> {
    const random = this.#random;
    const memberId = random.pick(memberIds);
    const name = random.pick(nodes);
    const address = random.pick(addresses);
    const joinSecretDigest = random.pick(secrets);
    const index = 1 + random.integer(this.#count);
    const bodies: readonly (() => Body<Command>)[] = [
      () => founding,
      () => ({ type: 'cluster.upgrade', format: random.pick([2, 3]) }),
      () => ({
        type: 'cluster.settings',
        settings: {
          electionTicks: random.pick([10, 12, 100]),
          tickMs: 50,
          heartbeatTicks: 2,
          freshnessIntervalMs: 500,
          serveStaleMaxMs: 86_400_000,
        },
      }),
      () => ({ type: 'member.register', memberId, name, address }),
      ...[1, 2, 3].map(
        () => (): Body<Command> => ({
          type: 'member.add',
          memberId,
          name,
          address,
          joinSecretDigest,
          expiresAtMs: atMs + random.pick([hourMs, 0, 48 * hourMs]),
        }),
      ),
      ...[1, 2, 3].map(
        () => (): Body<Command> => ({
          type: 'member.join',
          memberId,
          joinSecretDigest,
          address,
        }),
      ),
      ...[1, 2].map(() => (): Body<Command> => ({ type: 'member.promote', memberId })),
      () => ({ type: 'member.remove', memberId }),
      () => ({
        type: 'member.forget',
        member: random.pick([memberId, name]),
        destroyed: random.integer(4) > 0,
      }),
      () => ({ type: 'member.update', memberId, address }),
      ...[1, 2, 3].map(
        () => (): Body<Command> => ({
          type: 'keystore.set',
          name: random.pick(stores),
          onIsolation: random.pick([
            { rule: 'serve' },
            { rule: 'stop', boundMs: 6_000 },
            { rule: 'stop', boundMs: 10_000 },
            { rule: 'stop', boundMs: 1 },
          ]),
          revision: index,
        }),
      ),
      () => ({
        type: 'cluster.recover',
        newClusterId: random.pick(['c-1', 'c-2', 'c-3']),
        survivor: { memberId, name, address },
        formerMembers: random.integer(2) === 0 ? [] : [{ memberId: 'm-9', name: 'node-9' }],
        pending: Array.from({ length: random.integer(6) }, () => ({
          index: 1 + random.integer(this.#count),
          digest: random.pick(secrets),
          type: random.pick(grantTypes),
          keyStore: random.pick(stores),
          name: random.pick([null, 'alpha', 'beta', 'A'.repeat(20)]),
        })),
      }),
      () => ({ type: 'pending.confirm', index }),
      () => ({ type: 'pending.drop', index }),
    ];
    return random.pick(bodies)();
  }
}

const founding = {
  type: 'cluster.init',
  clusterId: 'c-1',
  nodeName: 'node-0',
  memberId: 'm-0',
  address: 'a.example:7946',
  format: 4,
} as const;
