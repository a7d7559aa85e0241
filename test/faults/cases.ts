import { setTimeout as delay } from 'node:timers/promises';
import type { FaultCase, FaultContext } from './fault-case.js';

/** What one token may do while another is well. */
const quickly = { failed: 0, p99Ms: 100 };
const inTime = { failed: 0, p99Ms: 250 };

const dataPath = ['C_EncryptInit', 'C_Encrypt', 'C_DecryptInit', 'C_Decrypt'];
/** Of these, for a request: an encrypt makes all of them, a decrypt two. */
const callsEach = 3;

/** Every process checks its tokens each second: none misses that one was away. */
const reinsertedAfterMs = 1_500;

const rules =
  (...lines: readonly string[]) =>
  ({ token }: FaultContext): void =>
    token.shim.setFaults(...lines);

const directly = (
  name: string,
  fault: string,
  lines: readonly string[],
  more: Partial<FaultCase> = {},
): FaultCase => ({ name, fault, reached: 'directly', allowed: quickly, begin: rules(...lines), ...more });

/** The rules again every second, each of them for one call of each process. */
const everySecond = (line: string): Pick<FaultCase, 'again'> => ({ again: rules(line) });

/** The fault matrix. `*`: every call of the module. */
export const cases: readonly FaultCase[] = [
  directly('device-error', 'every call CKR_DEVICE_ERROR', ['* fail 0x30']),
  directly('sessions-closed', 'all sessions closed, every second', ['C_EncryptInit close-sessions - 1'], {
    ...everySecond('C_EncryptInit close-sessions - 1'),
  }),
  directly('logged-out', 'logged out, every second', ['C_EncryptInit logout - 1'], {
    ...everySecond('C_EncryptInit logout - 1'),
  }),
  directly('session-invalid', 'CKR_SESSION_HANDLE_INVALID of every operation', [
    'C_EncryptInit fail 0xb3',
    'C_DecryptInit fail 0xb3',
  ]),
  directly('session-count', 'CKR_SESSION_COUNT on open, sessions closed', [
    'C_OpenSession fail 0xb1',
    'C_EncryptInit close-sessions - 1',
  ]),
  directly('host-memory', 'every call CKR_HOST_MEMORY', ['* fail 0x2']),
  directly('general-error', 'every call CKR_GENERAL_ERROR', ['* fail 0x5']),
  directly('hang', 'hang of every call', ['* hang'], { allowed: { failed: 20, p99Ms: 250 } }),
  directly('delay-30', '+30 ms on each call', ['* delay 30'], { allowed: inTime }),
  directly('delay-300', '+300 ms on each call', ['* delay 300'], { allowed: inTime }),
  directly('removed', 'token removed and reinserted', ['token removed']),
  {
    name: 'server-killed',
    fault: 'network HSM: server killed, back at the end',
    reached: 'over-network',
    allowed: quickly,
    begin: ({ token }) => token.network?.kill(),
    end: ({ token }) => token.network?.start(),
  },
  {
    name: 'server-stopped',
    fault: 'network HSM: server stopped (SIGSTOP)',
    reached: 'over-network',
    allowed: quickly,
    begin: ({ token }) => token.network?.pause(),
    end: ({ token }) => token.network?.resume(),
  },
  {
    name: 'server-restarted',
    fault: 'network HSM: server killed and started at once',
    reached: 'over-network',
    allowed: quickly,
    async begin({ token }) {
      await token.network?.kill();
      await token.network?.start();
    },
  },
  {
    name: 'crash',
    fault: 'module ends one serving process (SIGSEGV)',
    reached: 'directly',
    // What it had accepted: at most a request on each of its connections.
    allowed: { failed: 300, p99Ms: 250 },
    harmless: true,
    async begin({ token, servingPids }) {
      const [victim] = await servingPids();
      token.shim.setFaults(`C_Encrypt signal 11 pid=${victim ?? 0}`);
    },
  },
  {
    name: 'key-deleted',
    fault: 'key deleted on the token',
    reached: 'directly',
    allowed: quickly,
    begin: ({ token }) => token.deleteKey(),
    end: ({ token }) => token.createKey(),
  },
  directly('bit-flip', 'wrong bytes from every encrypt', ['C_Encrypt flip']),
  directly('bit-flip-some', 'wrong bytes from 1% of encrypts', ['C_Encrypt flip - 1%']),
  {
    name: 'customer-some',
    fault: '1% of calls on the customer’s key CKR_GENERAL_ERROR',
    reached: 'directly',
    allowed: quickly,
    begin: ({ token }) => token.shim.setFaults(`* fail 0x5 1% id=${token.keyId}`),
  },
  {
    name: 'customer-ill',
    fault: 'every call on the customer’s key CKR_GENERAL_ERROR',
    reached: 'directly',
    allowed: quickly,
    begin: ({ token }) => token.shim.setFaults(`* fail 0x5 id=${token.keyId}`),
  },
  {
    name: 'renumbered',
    fault: 'token reinserted: another key behind each old handle',
    reached: 'directly',
    allowed: quickly,
    async begin({ token }) {
      token.shim.setFaults('token removed');
      await delay(reinsertedAfterMs);
      token.shim.setFaults('handles swap');
    },
    async end({ token }) {
      token.shim.setFaults('token removed');
      await delay(reinsertedAfterMs);
    },
  },
  directly('iv-refused', 'an HSM that wants to make the IVs, and leaves them zero', ['iv stays-zero']),
  {
    name: 'iv-stays-zero',
    fault: 'IVs of the HSM that stay zero',
    reached: 'directly',
    allowed: quickly,
    hsm: { profile: 'cloudhsm', rule: 'iv in-place' },
    begin: rules('iv stays-zero'),
    async end({ token, whyUnavailable, accept }) {
      const reason = await whyUnavailable();
      if (reason?.includes('hsm probe --accept') !== true)
        throw new Error(`the token was not refused: ${reason ?? 'it is in use'}`);
      token.shim.setFaults();
      await accept();
    },
  },
  {
    name: 'callers-fault',
    fault: '20% of decrypts with another encryption context',
    reached: 'directly',
    allowed: quickly,
    harmless: true,
    begin: ({ load }) => load.spoil(0.2),
    end: ({ load }) => load.spoil(0),
  },
  {
    name: 'all-down',
    fault: 'every token down, then one back',
    reached: 'directly',
    allowed: quickly,
    breaksAll: true,
    begin({ token, otherShims }) {
      for (const shim of [token.shim, ...otherShims]) shim.setFaults('* fail 0x30');
    },
    after({ otherShims }) {
      for (const shim of otherShims) shim.setFaults();
    },
  },
  {
    name: 'overload',
    fault: 'tokens slowed to a third of the rate',
    reached: 'directly',
    allowed: quickly,
    breaksAll: true,
    // Below the deadline.
    overload: { callsEach, capacityShareMin: 0.9, servedP99Ms: 150, refusedP99Ms: 10 },
    sessions: 1,
    begin({ token, otherShims, rate, servingProcesses }) {
      const shims = [token.shim, ...otherShims];
      const callsAtOnce = shims.length * servingProcesses;
      const delayMs = (3 * 1_000 * callsAtOnce) / (rate * callsEach);
      for (const shim of shims)
        shim.setFaults(...dataPath.map((name) => `${name} delay ${delayMs.toFixed(3)}`));
    },
    after({ otherShims }) {
      for (const shim of otherShims) shim.setFaults();
    },
  },
];
