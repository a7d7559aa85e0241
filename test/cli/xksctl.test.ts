import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { connectFailure } from '../../src/cli/admin-socket.js';
import { profilePins } from '../../src/hsm/profile/profile-pins.js';
import { TokenProfile } from '../../src/hsm/profile/token-profile.js';
import { tokenRefusals } from '../../src/hsm/profile/token-refusals.js';
import { aesObject, FakeHsm } from '../replica/fake-hsm.js';
import { FakeServingProcess, readyReport } from '../replica/fake-serving-process.js';
import { shortDirectory } from '../support/short-directory.js';
import { nodeFiles, ReplicaProcess, readText, runXksctl, startReplica } from './replica-process.js';

t.test('a node from nothing: init, prepare, key store, credential, keys, kill switch', async (t) => {
  const { files, replica, run } = await startReplica(t);
  const fake = new FakeHsm();
  const serving = await FakeServingProcess.link(files.stateSocket, { onHsmRequest: fake.answer });
  t.teardown(() => serving.end());
  serving.report(readyReport);

  const json = async (...args: readonly string[]): Promise<Record<string, unknown>> => {
    const result = await run(...args, '-o', 'json');
    if (result.exitCode !== 0) throw new Error(`${args.join(' ')}: ${result.exitCode} ${result.stderr}`);
    return JSON.parse(result.stdout);
  };

  await t.test('hsm', async (t) => {
    t.match(await json('hsm', 'prepare'), {
      tokens: [{ serial: '0001', created: ['xksd-test', 'xksd-wrapping'] }],
      failed: [],
    });
    const listed = await run('hsm', 'list');
    t.equal(listed.exitCode, 0);
    t.match(listed.stdout, /fake +0001 +ACTIVE/);
    t.match(listed.stdout, /xksd-test +CKK_AES 256/);
    fake.unlisted = 'the PIN is wrong';
    t.match((await run('hsm', 'list')).stdout, /its objects cannot be listed: the PIN is wrong/);
    t.match(await json('hsm', 'list'), { tokens: [{ objects: null, unlisted: 'the PIN is wrong' }] });
    fake.unlisted = null;
    const tested = await run('hsm', 'test');
    t.equal(tested.exitCode, 0);
    t.match(tested.stdout, /serving-1 +fake +0001 +passed +1\.3 ms +ACTIVE/);
    fake.testOutcome = 'failed';
    t.equal((await run('hsm', 'test')).exitCode, 3);
    fake.testOutcome = 'passed';
    const probed = await run('hsm', 'probe');
    t.equal(probed.exitCode, 0);
    t.match(probed.stdout, /pinned +takes IVs\nfound +makes IVs\nverdict +agrees/);
    t.match(probed.stdout, /decrypt: a wrong tag +C_Decrypt returned CKR_GENERAL_ERROR/);
    fake.probeVerdict = 'differs';
    t.equal((await run('hsm', 'probe')).exitCode, 3);
    t.match(await json('hsm', 'probe', '--accept', '0001'), { probes: [{ verdict: 'accepted' }] });
    fake.probeVerdict = 'agrees';
    t.match((await run('hsm', 'login')).stdout, /serving-1 +fake +ACTIVE/);
  });

  await t.test(
    'hsm probe: an IV that is unsafe, and one that comes while it is being accepted',
    async (t) => {
      const dataDir = t.testdir();
      const process = async () => {
        const profile = new TokenProfile({
          ...{ stated: 'auto', pins: profilePins(dataDir), refusals: tokenRefusals(dataDir) },
          ...{ clock: systemClock, logger: silentLogger, onChange: () => {} },
        });
        await profile.met({ serial: '0001', label: 'fake', firmware: '1' });
        return profile;
      };
      const [profile, sibling] = [await process(), await process()];
      fake.profile = profile;
      t.equal((await run('hsm', 'probe')).exitCode, 0);
      await sibling.sawUnsafeIv();
      const refused = await run('hsm', 'probe');
      t.equal(refused.exitCode, 3);
      t.match(
        refused.stdout,
        /verdict +refused\nreason +it gave an IV that is zero/,
        'also where another met it',
      );
      fake.trials.onCall = async () => {
        fake.trials.onCall = async () => {};
        await sibling.sawUnsafeIv();
      };
      const overlapped = await run('hsm', 'probe', '--accept', '0001');
      t.equal(overlapped.exitCode, 3);
      t.match(overlapped.stdout, /verdict +refused\nreason +it gave an IV that is zero/);
      t.match(await json('hsm', 'probe', '--accept', '0001'), {
        probes: [{ verdict: 'accepted', reason: null }],
      });
      t.equal((await run('hsm', 'probe')).exitCode, 0);
      fake.profile = null;
    },
  );

  await t.test('keystore', async (t) => {
    const region = ['--region', 'us-east-1'];
    t.match(await json('keystore', 'create', 'store', '--uri-path-prefix', '/pre/fix', ...region), {
      keyStore: { uriPath: '/pre/fix/kms/xks/v1' },
    });
    const regions = ['--region', 'eu-west-1', '--region', 'eu-central-1'];
    t.match(await json('keystore', 'create', ...regions, 'option-first'), {
      keyStore: { name: 'option-first', regions: ['eu-west-1', 'eu-central-1'] },
    });
    t.match(
      (await run('keystore', 'list')).stdout,
      /^store +ENABLED +\/pre\/fix\/kms\/xks\/v1 +us-east-1 +0 +0$/m,
    );
    t.match((await run('keystore', 'show', 'store')).stdout, /^URI path +\/pre\/fix\/kms\/xks\/v1$/m);
    const again = await run('keystore', 'create', 'store', ...region);
    t.equal(again.exitCode, 1);
    t.match(again.stderr, /^xksctl: .*store/);
    t.equal(again.stdout, '');
    const failed = await run('keystore', 'show', 'none', '-o', 'json');
    t.match(JSON.parse(failed.stderr), { error: { code: 'not-found' } });
    t.equal(failed.stdout, '');
  });

  await t.test('cluster settings', async (t) => {
    t.match((await run('cluster', 'settings')).stdout, /^election-ticks +10 +10 +without one/m);
    const set = await run('cluster', 'settings', 'set', 'election-ticks=8', 'serve-stale-max-ms=3600000');
    t.equal(set.exitCode, 0);
    t.match(set.stdout, /^election-ticks +8$/m);
    const refused = await run('cluster', 'settings', 'set', 'heartbeat-ticks=3');
    t.equal(refused.exitCode, 1);
    t.match(refused.stderr, /3 heartbeats at least/);
  });

  await t.test('keystore set: what an isolated node does with it', async (t) => {
    const rule = async (...args: readonly string[]): Promise<unknown> => {
      const { keyStore } = await json('keystore', 'set', 'option-first', '--on-isolation', ...args);
      return (keyStore as { readonly onIsolation: unknown }).onIsolation;
    };
    t.strictSame(await rule('stop', '--bound', '6'), { rule: 'stop', boundMs: 6_000 });
    t.strictSame(await rule('stop'), { rule: 'stop', boundMs: 10_000 });
    t.match((await run('keystore', 'show', 'option-first')).stdout, /^isolated +.*stops after 10 s$/m);
    t.strictSame(await rule('serve'), { rule: 'serve' });
    t.match((await run('keystore', 'show', 'option-first')).stdout, /^isolated +.*serves on$/m);
    const late = ['keystore', 'set', 'store', '--on-isolation'];
    t.equal((await run(...late, 'stop', '--revision', '1')).exitCode, 0, 'a denial comes through');
    const refused = await run(...late, 'serve', '--revision', '1', '-o', 'json');
    t.match(
      JSON.parse(refused.stderr),
      { error: { code: 'conflict' } },
      'a grant on a past revision does not',
    );
    t.equal((await run(...late, 'serve')).exitCode, 0);
  });

  let first = '';
  await t.test('credential; X-C1: the file for the console, 0600, and never over another one', async (t) => {
    const created = await run('credential', 'create', 'store');
    first = /^access key id +([A-Z2-7]+)$/m.exec(created.stdout)?.[1] ?? '';
    t.match(created.stdout, `secret access key  ${fake.secrets.get(first)}`);
    t.match(created.stderr, /not shown again/);

    const file = join(files.directory, 'kms-config.json');
    const written = await run('credential', 'create', 'store', '--kms-config', file, '-o', 'json');
    t.equal(written.exitCode, 0, written.stderr);
    const second: string = JSON.parse(written.stdout).credential.accessKeyId;
    const secret = fake.secrets.get(second) ?? 'none';
    t.notOk((written.stdout + written.stderr).includes(secret), 'the secret is in the file alone');
    t.equal(statSync(file).mode & 0o777, 0o600);
    t.same(JSON.parse(readText(file)), {
      XksProxyUriPath: '/pre/fix/kms/xks/v1',
      XksProxyAuthenticationCredential: { AccessKeyId: second, RawSecretAccessKey: secret },
    });
    const minted = fake.secrets.size;
    const refused = await run('credential', 'create', 'store', '--kms-config', file);
    t.equal(refused.exitCode, 1);
    t.match(refused.stderr, /exists already and may hold a secret/);
    t.equal(fake.secrets.size, minted, 'no credential was made in vain');
    t.match(JSON.parse(readText(file)).XksProxyAuthenticationCredential, { AccessKeyId: second });

    const unwritten = join(files.directory, 'unwritten.json');
    t.equal((await run('credential', 'create', 'none', '--kms-config', unwritten)).exitCode, 1);
    t.notOk(existsSync(unwritten), 'no empty file is left');

    t.match(
      (await run('credential', 'list', 'store')).stdout,
      new RegExp(`^${first} +store .* no use seen since \\d`, 'm'),
    );
    t.match(await json('credential', 'retire', second), { credential: { accessKeyId: second } });
    const last = await run('credential', 'retire', first);
    t.equal(last.exitCode, 1);
    t.match(last.stderr, /last credential of key store "store".*--force/);
  });

  await t.test('key', async (t) => {
    t.match(await json('key', 'generate', 'store', 'one', '--description', 'first'), {
      key: { externalKeyId: 'one', description: 'first' },
    });
    fake.objects.push(
      aesObject({ objectId: 'abcd', label: 'theirs', usage: ['ENCRYPT'] }),
      aesObject({ label: 'short', keyBits: 128 }),
    );
    const added = await run('key', 'add', 'store', 'two', '--object-id', 'AB:CD');
    t.equal(added.exitCode, 0, added.stderr);
    t.match(added.stderr, /^warning: The object lacks CKA_DECRYPT/m);
    t.match((await run('key', 'add', 'store', '--object-label', 'short')).stderr, /AES key of 128 bits/);
    t.match((await run('key', 'list', 'store')).stdout, /^one +ENABLED +1 +ENCRYPT,DECRYPT .*first$/m);
    t.match((await run('key', 'show', 'store', 'two')).stdout, /1 \(current\) +ENABLED +abcd/);
    t.match(await json('key', 'show', 'store', 'two'), { tokens: null });
    const everywhere = await run('key', 'show', 'store', 'two', '--tokens');
    t.equal(everywhere.exitCode, 0);
    t.match(everywhere.stdout, /1 +fake +yes/);
    fake.onTokens.push({ token: 'other', holds: 'unknown', reason: 'not logged in' });
    const notEverywhere = await run('key', 'show', 'store', 'two', '--tokens');
    t.equal(notEverywhere.exitCode, 3);
    t.match(notEverywhere.stdout, /1 +other +unknown +not logged in/);
    fake.onTokens.pop();
    const disabled = await run('key', 'disable', 'store', 'one');
    t.equal(disabled.stderr, 'Every serving process of this node has stopped using it.\n');
    t.match(disabled.stdout, /^1 \(current\) +DISABLED /m, 'no version of it is of use');
    t.match(await json('key', 'disable', 'store', 'one'), { key: { status: 'DISABLED' } });
    t.match((await run('key', 'enable', 'store', 'one', '--revision', '1')).stderr, /^xksctl: /);
  });

  await t.test('key show and set: the budget of random IVs', async (t) => {
    const row = async () => (await run('key', 'show', 'store', 'two')).stdout.match(/^1 +\d+ +\d+ .*$/m)?.[0];
    t.match(await row(), /^1 +0 +4294967296 +0\.00 % +only decrypts$/);
    const set = await run('key', 'set', 'store', 'two', '--iv-budget', 'continue');
    t.equal(set.exitCode, 0, set.stderr);
    t.match(await row(), / encrypts on$/);
    t.match(await json('key', 'show', 'store', 'two'), {
      key: { versions: [{ ivBudget: { reserved: 0, unreserved: 0, rule: 'continue' } }] },
    });
    t.equal((await run('key', 'set', 'store', 'two', '--iv-budget', 'refuse')).exitCode, 0);
    t.match(await row(), / only decrypts$/);
    const unknown = await run('key', 'set', 'store', 'two', '--iv-budget', 'ignore');
    t.equal(unknown.exitCode, 2);
    t.match(unknown.stderr, /Allowed choices are refuse, continue/);
    t.equal((await run('key', 'set', 'store', 'two')).exitCode, 2);
    t.equal((await run('key', 'set', 'store', 'none', '--iv-budget', 'refuse')).exitCode, 1);
  });

  await t.test('status: exit 0 while all is well, 3 when something wants a look', async (t) => {
    replica.send({ kind: 'fleet', readyServingProcesses: 1, servingProcesses: 1, running: [] });
    let well = await run('status');
    // The report and the count of processes arrive on their own ways.
    while (well.exitCode === 3 && !well.stdout.includes('All is well.')) well = await run('status');
    t.equal(well.exitCode, 0, well.stdout);
    t.match(well.stdout, /^node +node-1$/m);
    t.match(well.stdout, /serving-1 +\d+ +yes/);
    replica.send({ kind: 'fleet', readyServingProcesses: 1, servingProcesses: 3, running: [] });
    let ill = await run('status');
    while (ill.exitCode === 0) ill = await run('status');
    t.equal(ill.exitCode, 3);
    t.match(ill.stdout, /! 1 of 3 serving processes are connected/);
    t.ok(ill.stdout.split('\n').length <= 24, 'on one screen');
  });

  await t.test('kms-config', async (t) => {
    const both = await run('kms-config', 'store', '--endpoint', 'https://xks.example.org');
    t.equal(both.exitCode, 0, both.stderr);
    for (const line of [
      '--custom-key-store-name store',
      '--custom-key-store-type EXTERNAL_KEY_STORE',
      '--xks-proxy-uri-endpoint https://xks.example.org',
      '--xks-proxy-uri-path /pre/fix/kms/xks/v1',
      '--xks-proxy-connectivity PUBLIC_ENDPOINT',
      '--xks-proxy-connectivity VPC_ENDPOINT_SERVICE',
      '--xks-proxy-vpc-endpoint-service-name com.amazonaws.vpce.us-east-1.vpce-svc-EXAMPLE',
      '--xks-proxy-authentication-credential file://<(',
    ]) {
      t.ok(both.stdout.includes(line), line);
    }
    t.notOk(both.stdout.includes(fake.secrets.get(first) ?? 'none'));
    const file = join(files.directory, 'for kms.json');
    const credential = { AccessKeyId: first, RawSecretAccessKey: 'a+/=' };
    const write = (uriPath: string, AccessKeyId: string): void =>
      writeFileSync(
        file,
        JSON.stringify({
          XksProxyUriPath: uriPath,
          XksProxyAuthenticationCredential: { ...credential, AccessKeyId },
        }),
      );
    for (const [uriPath, accessKeyId, reason] of [
      ['/other/kms/xks/v1', first, /is of the key store at \/other\/kms\/xks\/v1/],
      ['/pre/fix/kms/xks/v1', 'AAAAAAAAAAAAAAAAAAAA', /has no credential AAAAAAAAAAAAAAAAAAAA/],
    ] as const) {
      write(uriPath, accessKeyId);
      const refused = await run('kms-config', 'store', '--kms-config', file);
      t.equal(refused.exitCode, 1);
      t.match(refused.stderr, reason);
    }
    writeFileSync(file, '{"RawSecretAccessKey": "a+/="');
    const damaged = await run('kms-config', 'store', '--kms-config', file);
    t.match(damaged, { exitCode: 1, stderr: /is no proxy configuration file/ });
    t.notMatch(damaged.stderr, 'a+/=', 'no secret is quoted');
    t.equal((await run('kms-config', 'store', '--kms-config', join(files.directory, 'none'))).exitCode, 1);
    write('/pre/fix/kms/xks/v1', first);
    const one = await run(
      'kms-config',
      'store',
      '--connectivity',
      'VPC_ENDPOINT_SERVICE',
      '--kms-config',
      file,
    );
    t.notMatch(one.stdout, /PUBLIC_ENDPOINT|read -rsp/);
    // A stand-in for the AWS CLI: prints its arguments, and what is in the file that the last one names.
    const aws = `aws() { printf '%s\\n' "$@"; eval "last=\\\${$#}"; cat "\${last#file://}"; }\n${one.stdout}`;
    const ran = spawnSync('bash', ['-c', aws], { encoding: 'utf8' });
    t.equal(ran.status, 0, ran.stderr);
    t.match(ran.stdout, /^--xks-proxy-authentication-credential\nfile:\/\/\/dev\/fd\/\d+$/m);
    t.same(JSON.parse(ran.stdout.slice(ran.stdout.indexOf('{'))), credential);
    t.equal((await run('kms-config', 'store', '--endpoint', 'http://x')).exitCode, 2);
    t.equal((await run('kms-config', 'store', '--access-key-id', 'NONE')).exitCode, 1);
    const contradiction = ['--connectivity', 'PUBLIC_ENDPOINT', '--vpc-endpoint-service-name'];
    const service = 'com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0';
    t.equal((await run('kms-config', 'store', ...contradiction, service)).exitCode, 2);
  });

  await t.test('a disable that a serving process has not applied: exit 3', async (t) => {
    serving.silent = true;
    const disabled = await run('keystore', 'disable', 'store');
    t.equal(disabled.exitCode, 3);
    t.match(disabled.stdout, /^status +DISABLED$/m);
    t.match(disabled.stderr, /not confirmed by serving-1 \(pid \d+, at index \d+\): it may still serve/);
    serving.silent = false;
    serving.acknowledge();
    t.equal((await run('keystore', 'enable', 'store')).exitCode, 0);
  });

  await t.test('what was done is there after the replica was killed', async (t) => {
    await replica.kill();
    const down = await run('status');
    t.equal(down.exitCode, 1);
    t.match(
      down.stderr,
      /xksd is not running here: nobody listens at .*systemctl start xksd.*xksd run --config/,
    );
    const again = await ReplicaProcess.start(t, files);
    t.match(await json('keystore', 'show', 'store'), {
      keyStore: { status: 'ENABLED', credentials: 1, keys: 2 },
    });
    let metrics = await again.metrics();
    t.match(metrics, /^xks_keys 2$/m);
    // The disk is looked at beside everything else.
    while (!/^xks_data_directory_free_bytes [1-9]/m.test(metrics)) metrics = await again.metrics();
    again.send({ kind: 'drain', drainMs: 0 });
    t.equal(await again.ended(), 0, 'and it ends when it is told to');
  });

  await t.test('no secret is in the data directory or the log', async (t) => {
    for (const secret of fake.secrets.values()) {
      t.equal(
        spawnSync('grep', ['-rqF', '--', secret, files.dataDir]).status,
        1,
        'not in the data directory',
      );
      t.notOk(replica.log.includes(secret), 'not in the log');
    }
    t.match(replica.log, /"command":"credential.create".*"uid":\d+/);
  });
});

t.test('cluster init makes a data directory once, and says what is in its way', async (t) => {
  const files = nodeFiles(t);
  const made = await runXksctl(['cluster', 'init', '--config', files.configPath, '-o', 'json']);
  t.equal(made.exitCode, 0, made.stderr);
  t.match(JSON.parse(made.stdout), { node: 'node-1', clusterId: /^[0-9a-f]{32}$/, dataDir: files.dataDir });
  const again = await runXksctl(['cluster', 'init', '--config', files.configPath]);
  t.equal(again.exitCode, 1);
  t.match(again.stderr, /is a data directory already/);
  const missing = await runXksctl(['cluster', 'init', '--config', join(files.directory, 'none.toml')]);
  t.equal(missing.exitCode, 2);
  t.match(missing.stderr, /none\.toml: no such file/);
  t.equal((await runXksctl(['cluster', 'init'])).exitCode, 2);
});

t.test('cluster join without a token says that there is none', async (t) => {
  const files = nodeFiles(t);
  const joined = await runXksctl(['cluster', 'join', '--config', files.configPath]);
  t.match(joined, { exitCode: 2, stderr: /the join token was not given: standard input was empty/ });
  t.notOk(existsSync(files.dataDir));
});

t.test('cluster recover: what it needs, and where there is nothing to recover', async (t) => {
  const files = nodeFiles(t);
  t.equal((await runXksctl(['cluster', 'recover'])).exitCode, 2);
  t.equal((await runXksctl(['cluster', 'recover', '--report', join(files.directory, 'r')])).exitCode, 2);
  await runXksctl(['cluster', 'init', '--config', files.configPath]);
  const recover = (...args: readonly string[]) =>
    runXksctl(['cluster', 'recover', '--config', files.configPath, ...args]);
  t.match(await recover('--yes'), { exitCode: 1, stderr: /has no \[cluster\] section/ });
  const report = join(files.directory, 'node-1.report');
  t.match(await recover('--report', report, '-o', 'json'), { exitCode: 0, stdout: /"commitIndex": 0/ });
  const cluster = `
[cluster]
listen = "127.0.0.1:0"
advertise = "127.0.0.1:7443"
ca = "${files.directory}/tls.pem"
certificate = "${files.directory}/tls.pem"
private_key = "${files.directory}/tls.pem"
`;
  writeFileSync(files.configPath, readText(files.configPath).replace('[[hsm]]', `${cluster}\n[[hsm]]`));
  t.match(await recover('--survivor', report), { exitCode: 1, stderr: /nothing to recover/ });
  t.match(await recover('--survivor', files.configPath), {
    exitCode: 1,
    stderr: /is no report of a survivor: it is not JSON/,
  });
});

t.test('a replica without its data directory says so, and that a restart would not help', async (t) => {
  const files = nodeFiles(t);
  await t.rejects(
    ReplicaProcess.start(t, files),
    /the data directory .* does not exist.*xksctl cluster init/,
  );
});

t.test('a data directory of another node is refused', async (t) => {
  const files = nodeFiles(t);
  await runXksctl(['cluster', 'init', '--config', files.configPath]);
  writeFileSync(files.configPath, readText(files.configPath).replace('node-1', 'node-2'));
  await t.rejects(ReplicaProcess.start(t, files), /belongs to node "node-1", and this node is "node-2"/);
});

t.test('a founder whose log comes back empty does not elect itself in a cluster of its own', async (t) => {
  const files = nodeFiles(t);
  await runXksctl(['cluster', 'init', '--config', files.configPath]);
  const log = join(files.dataDir, 'log');
  const backup = join(files.directory, 'log-of-the-first-moment');
  cpSync(log, backup, { recursive: true });
  const replica = await ReplicaProcess.start(t, files);
  replica.child.kill('SIGKILL');
  await replica.ended();
  rmSync(log, { recursive: true });
  cpSync(backup, log, { recursive: true });
  await t.rejects(
    ReplicaProcess.start(t, files),
    /knows nothing of the cluster that this node is a member of.*add and join it anew/,
  );
});

t.test('a second replica on the same node waits for the first, then gives up with a reason', async (t) => {
  const { files } = await startReplica(t);
  await t.rejects(ReplicaProcess.start(t, files), /is in use by process \d+/);
});

t.test('a disk that takes no more ends the replica, with the reason', async (t) => {
  const { replica, run } = await startReplica(t);
  // RLIMIT_FSIZE: the next write to a file fails with EFBIG, as ENOSPC would.
  const limited = spawnSync('prlimit', ['--pid', String(replica.child.pid), '--fsize=1']);
  t.equal(limited.status, 0);
  const created = await run('keystore', 'create', 'store', '--region', 'us-east-1');
  t.equal(created.exitCode, 11, 'outcome unknown');
  t.match(created.stderr, /--request-id [0-9a-f]{12}-[0-9a-f]{20}/);
  t.equal(await replica.ended(), 1, 'the supervisor starts it anew');
  t.match(replica.log, /"reason":"[^"]*EFBIG[^"]*","message":"the durable log failed; the replica ends"/);
});

t.test(
  'a disk that takes no more while a replica starts is for its next start, not for a person',
  async (t) => {
    const files = nodeFiles(t);
    t.match(await runXksctl(['cluster', 'init', '--config', files.configPath]), { exitCode: 0 });
    const [segment = ''] = readdirSync(join(files.dataDir, 'log'));
    const { size } = statSync(join(files.dataDir, 'log', segment));
    await t.rejects(
      ReplicaProcess.start(t, files, size),
      /"reason":"[^"]*EFBIG[^"]*","message":"the durable log failed; the replica ends"/,
    );
    await ReplicaProcess.start(t, files);
  },
);

t.test('the command line: usage, help, version', async (t) => {
  const usage = async (...args: readonly string[]): Promise<void> => {
    const result = await runXksctl(args);
    t.equal(result.exitCode, 2, `xksctl ${args.join(' ')}`);
    t.equal(result.stdout, '');
    t.match(result.stderr, args.length === 0 ? /^Usage: / : /^xksctl: [^\n]+\n$/);
  };
  await Promise.all([
    usage(),
    usage('nonsense'),
    usage('keystore', 'create', 'x'),
    usage('keystore', 'set', 'x'),
    usage('keystore', 'set', 'x', '--on-isolation', 'stop', '--bound', '5'),
    usage('keystore', 'set', 'x', '--on-isolation', 'serve', '--bound', '10'),
    usage('status', '-o', 'yaml'),
    usage('key', 'add', 'store'),
    usage('key', 'add', 'store', '--object-id', 'xyz'),
    usage('key', 'enable', 'store', 'one', '--revision', '-1'),
    usage('cluster', 'add', 'x', '--address', 'x:1', '--expires', '59'),
  ]);
  const misspelt = await runXksctl(['keystroe', 'list', '-o', 'json']);
  t.same(JSON.parse(misspelt.stderr), {
    error: { code: 'usage', message: "unknown command 'keystroe' (Did you mean keystore?)" },
  });
  t.match(
    (await runXksctl(['cluster', 'add', 'x', '--address', 'x:1', '--expires', 'abc'])).stderr,
    /--expires/,
  );
  t.match(await runXksctl(['status', '--request-id', 'foo']), { exitCode: 2, stderr: /--request-id/ });
  const help = await runXksctl(['keystore', 'create', '--help']);
  t.equal(help.exitCode, 0);
  t.match(help.stdout, /--uri-path-prefix/);
  t.match(await runXksctl(['--version']), { exitCode: 0, stdout: /^\d+\.\d+\.\d+\n$/ });
});

t.test('where the admin socket is: argument, configuration, environment', async (t) => {
  const { files } = await startReplica(t);
  const reaches = async (args: readonly string[], environment: Record<string, string>): Promise<void> => {
    const { exitCode, stderr } = await runXksctl([...args, 'keystore', 'list'], environment);
    t.equal(exitCode, 0, `${args.join(' ')} ${stderr}`);
  };
  await reaches(['--socket', files.adminSocket], { XKSD_ADMIN_SOCKET: '/none' });
  await reaches(['--config', files.configPath], { XKSD_ADMIN_SOCKET: '/none' });
  await reaches([], { XKSD_ADMIN_SOCKET: files.adminSocket });
  const nowhere = await runXksctl(['status', '--socket', '/nonexistent/admin.sock']);
  t.equal(nowhere.exitCode, 1);
  t.match(nowhere.stderr, /there is no socket at \/nonexistent\/admin\.sock/);
});

t.test('no permission: who has it, and what to do', async (t) => {
  const path = join(shortDirectory(t), 'admin.sock');
  writeFileSync(path, '');
  const group = readText('/etc/group').split('\n')[0]?.split(':') ?? [];
  chownSync(path, process.getuid?.() ?? 0, Number(group[2]));
  chmodSync(path, 0o660);
  const { code, message } = connectFailure(path, 'EACCES', '');
  t.equal(code, 'permission-denied');
  t.match(message, `group ${group[0]}, mode 0660; join the group ${group[0]}`);
  chmodSync(path, 0o600);
  t.match(connectFailure(path, 'EACCES', '').message, /mode 0600; run this command as its owner or as root/);
  const hidden = join(path, '..', 'hidden', 'admin.sock');
  t.match(connectFailure(hidden, 'EACCES', '').message, /no permission to open .*: .* belongs to uid/);
});

t.test(
  'a replica that does not answer: a read gives up soon, and says that requests are served',
  async (t) => {
    const { createServer } = await import('node:net');
    const socket = join(shortDirectory(t), 'silent.sock');
    const server = createServer((connection) => void connection.resume().on('error', () => {}));
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    t.teardown(() => server.close());
    const result = await runXksctl(['--socket', socket, 'status']);
    t.equal(result.exitCode, 1);
    t.match(
      result.stderr,
      /^xksctl: the replica has not answered for 5 s\. Requests are served all the same/,
    );
  },
);

t.test('a peer that is not xksd is recognised', async (t) => {
  const { createServer } = await import('node:http');
  const socket = join(shortDirectory(t), 'other.sock');
  const server = createServer((_, response) => response.writeHead(200).end('{"hello":"there"}'));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  chmodSync(socket, 0o600);
  t.teardown(() => server.close());
  const result = await runXksctl(['--socket', socket, 'status']);
  t.equal(result.exitCode, 1);
  t.match(result.stderr, /is not what this xksctl expects/);
});
