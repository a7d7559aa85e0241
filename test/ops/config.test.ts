import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { type Config, loadConfig } from '../../src/ops/config.js';
import { configShape } from '../../src/ops/config-schema.js';
import { nearestName } from '../../src/ops/nearest-name.js';
import { stateSocketPath } from '../../src/ops/state-link.js';

const minimal = `
[xks]
tls_certificate = "tls/cert.pem"
tls_private_key = "credential:tls-key"
[[hsm]]
uri = "pkcs11:token=xks?module-path=/x.so&pin-source=file:/etc/xksd/pin"
`;

/** Not under `t.testdir()`: the sockets' paths start from here, and may have 107 bytes wherever the checkout lies. */
function write(t: Test, content: string, mode = 0o640): string {
  const directory = mkdtempSync(join(tmpdir(), 'xksd-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'xksd.toml');
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

function loaded(t: Test, content: string): Config {
  const result = loadConfig(write(t, content));
  if (!result.ok) throw new Error(result.error.message);
  return result.value;
}

function refusal(t: Test, content: string, mode?: number): string {
  const path = write(t, content, mode);
  const result = loadConfig(path);
  if (result.ok) throw new Error('the configuration was taken');
  t.notMatch(result.error.message, '\n', 'one line');
  t.ok(result.error.message.startsWith(`configuration ${path}: `), 'names the file');
  return result.error.message.slice(`configuration ${path}: `.length);
}

t.test('defaults are filled in and relative paths start from the file', async (t) => {
  const path = write(t, minimal);
  const directory = join(path, '..');
  const result = loadConfig(path);
  const processes = Math.min(8, Math.max(2, availableParallelism() - 1));
  t.same(result.ok && result.value, {
    node: { name: hostname(), dataDir: '/var/lib/xksd', runtimeDir: '/run/xksd' },
    xks: {
      listen: { address: '0.0.0.0', port: 443 },
      tlsCertificate: join(directory, 'tls/cert.pem'),
      tlsPrivateKey: 'credential:tls-key',
      mtls: null,
      requestDeadlineMs: 150,
      connectionsMax: 2_000,
      keepAliveSeconds: 365,
      connectionAgeMaxSeconds: 3_600,
    },
    health: { listen: { address: '0.0.0.0', port: 8080 } },
    metrics: { listen: { address: '127.0.0.1', port: 9464 } },
    admin: { socket: '/run/xksd/admin.sock' },
    cluster: null,
    serving: { processes, drainSeconds: 60 },
    hsm: [
      {
        uri: 'pkcs11:token=xks?module-path=/x.so&pin-source=file:/etc/xksd/pin',
        initArgs: '',
        profile: 'auto',
        workers: 1,
        sessionsMax: 64,
      },
    ],
    log: { level: 'info', tracePkcs11: false },
  });
});

t.test('everything that is given is taken', async (t) => {
  const config = loaded(
    t,
    `
    [node]
    name = "xks-1"
    data_dir = "/d"
    runtime_dir = "run"
    [xks]
    listen = "[::1]:8443"
    tls_certificate = "/c.pem"
    tls_private_key = "k.pem"
    mtls_ca = "/ca.pem"
    mtls_subject = "CN=kms"
    request_deadline_ms = 200
    connections_max = 10
    keep_alive_seconds = 75
    connection_age_max_seconds = 600
    [health]
    listen = "127.0.0.1:0"
    [metrics]
    listen = "127.0.0.1:0"
    [cluster]
    listen = "[::]:7000"
    advertise = "[2001:db8::1]:7001"
    ca = "/cluster-ca.pem"
    certificate = "cluster.pem"
    private_key = "credential:cluster-key"
    [serving]
    processes = 3
    drain_seconds = 0
    [[hsm]]
    uri = "pkcs11:token=xks"
    init_args = "configdir='/nss'"
    workers = 2
    sessions_max = 48
    [log]
    level = "debug"`,
  );
  t.match(config.node.runtimeDir, /\/run$/);
  t.equal(
    config.admin.socket,
    `${config.node.runtimeDir}/admin.sock`,
    'the admin socket follows runtime_dir',
  );
  t.equal(stateSocketPath(config), `${config.node.runtimeDir}/state.sock`);
  t.match(config.xks.tlsPrivateKey, /^\/.*\/k\.pem$/);
  t.same(config.xks.listen, { address: '::1', port: 8443 });
  t.same(config.xks.mtls, { ca: '/ca.pem', subject: 'CN=kms' });
  t.match(config.cluster, {
    listen: { address: '::', port: 7_000 },
    advertise: '[2001:db8::1]:7001',
    ca: '/cluster-ca.pem',
    certificate: /^\/.*\/cluster\.pem$/,
    privateKey: 'credential:cluster-key',
  });
  t.same(config.hsm, [
    { uri: 'pkcs11:token=xks', initArgs: "configdir='/nss'", profile: 'auto', workers: 2, sessionsMax: 8 },
  ]);
  t.same(config.serving, { processes: 3, drainSeconds: 0 });
  t.equal(config.log.level, 'debug');
});

t.test('the shipped example loads, and its commented settings are the defaults', async (t) => {
  const source = readFileSync(fileURLToPath(new URL('../../../systemd/xksd.toml', import.meta.url)), 'utf8');
  const asShipped = loaded(t, source);
  const uncommented = source
    .replaceAll(/^#(?=[a-z_]+ = )/gm, '')
    .replaceAll(/^mtls_.*$/gm, '')
    .replace(/^name = .*$/m, '')
    .replace(/^processes = .*$/m, '')
    .replace(/^sessions_max = .*$/m, '');
  t.same(loaded(t, uncommented), asShipped);

  const optional = /^#\[cluster\]\n(?:# .*\n)+/m.exec(source)?.[0] ?? '';
  const cluster = optional.replaceAll(/^#(?=\[)|^# (?=[a-z_]+ = )/gm, '');
  t.match(loaded(t, source.replace(optional, cluster)).cluster, {
    listen: { address: '0.0.0.0', port: 7_443 },
    advertise: 'xks-1.example.com:7443',
    privateKey: '/etc/xksd/cluster/private-key.pem',
  });
});

t.test('the shipped example names no systemd credential that the shipped unit does not load', async (t) => {
  const shipped = (name: string): string =>
    readFileSync(fileURLToPath(new URL(`../../../systemd/${name}`, import.meta.url)), 'utf8');
  const firsts = (text: string, pattern: RegExp): (string | undefined)[] =>
    [...text.matchAll(pattern)].map(([, name]) => name);
  const named = firsts(shipped('xksd.toml'), /credential:([a-z-]+)/g);
  const loads = firsts(shipped('xksd.service'), /^LoadCredential=([a-z-]+):/gm);
  t.same(named.sort(), loads.sort());
});

t.test('the shipped example has every setting', async (t) => {
  const source = readFileSync(fileURLToPath(new URL('../../../systemd/xksd.toml', import.meta.url)), 'utf8');
  for (const [section, keys] of Object.entries(configShape('/'))) {
    const begin = source.search(new RegExp(`^#?\\[+${section}\\]+$`, 'm'));
    t.ok(begin >= 0, section);
    const [text = ''] = source.slice(begin).split('\n\n');
    for (const key of Object.keys(keys))
      t.match(text, new RegExp(`^(# ?)?${key} = `, 'm'), `${section} ${key}`);
  }
});

t.test('a file that is not there, not readable, or not TOML', async (t) => {
  const missing = loadConfig(join(t.testdir(), 'none.toml'));
  t.match(!missing.ok && missing.error.message, /none\.toml: no such file/);
  t.equal(refusal(t, 'a = 1\nb = = 2\n').replace(/: .*/, ''), 'line 2, column 5');
  const secret = refusal(t, `${minimal}pin = pkcs11:?pin-value=hunter2\n`);
  t.notMatch(secret, 'hunter2', 'no line of the file is quoted');
});

t.test('a file that is none: nothing waits, and nothing is read without end', async (t) => {
  const directory = t.testdir();
  const fifo = join(directory, 'fifo');
  execFileSync('mkfifo', [fifo]);
  for (const [path, problem] of [
    [fifo, 'not a regular file'],
    ['/dev/zero', 'not a regular file'],
    [directory, 'a directory: give the file in it'],
  ] as const) {
    t.match(loadConfig(path), { ok: false, error: { message: `configuration ${path}: ${problem}` } });
  }
  t.equal(refusal(t, `${minimal}#${'x'.repeat(1024 * 1024)}`), 'longer than 1048576 bytes');
  const latin1 = join(directory, 'latin1.toml');
  writeFileSync(latin1, Buffer.from(`${minimal}# Stra\xdfe`, 'latin1'));
  t.match(loadConfig(latin1), { ok: false, error: { message: /latin1\.toml: it is not UTF-8$/ } });
  t.ok(loadConfig(write(t, `\ufeff${minimal}`)).ok, 'a byte order mark does no harm');
});

t.test('a message stays one line of sensible length, whatever the file says', async (t) => {
  t.equal(
    refusal(t, minimal.replace('[[hsm]]', '"a\\u001b[31m\\nb" = 1\n[[hsm]]')).replace(/; known are.*/, ''),
    'unknown key "a\\u001b[31m\\nb" in [xks]',
  );
  t.match(
    refusal(t, minimal.replace('[[hsm]]', `listen = "${'é'.repeat(5_000)}"\n[[hsm]]`)),
    /^\[xks\] listen must be .*, not "é{99}…$/,
  );
  const many = Array.from({ length: 500 }, (_, index) => `"q${index}" = 1`).join('\n');
  t.match(refusal(t, minimal.replace('[[hsm]]', `${many}\n[[hsm]]`)), /; and 480 more$/);
});

t.test('of several tokens it says which', async (t) => {
  const second = (line: string) => `${minimal}[[hsm]]\nuri = "pkcs11:token=b"\n${line}`;
  t.equal(refusal(t, second('workers = 0')), '[[hsm]] 2 workers must be a whole number from 1 to 16');
  t.match(refusal(t, second('wokers = 1')), 'unknown key "wokers" in [[hsm]] 2: did you mean "workers"?');
});

t.test("a node's name is one that the cluster takes, the host's too", async (t) => {
  const named = (name: string) => `[node]\nname = ${name}\n${minimal}`;
  const rule = 'must be 1 to 63 letters, digits, ".", "_" and "-", and begin and end with a letter or digit';
  t.equal(refusal(t, named('"xks-1-"')), `[node] name ${rule}, not "xks-1-"`);
  t.equal(refusal(t, named('1')), `[node] name ${rule}, not 1`);
  t.equal(refusal(t, named(`"${'a'.repeat(64)}"`)), `[node] name ${rule}, not "${'a'.repeat(64)}"`);
  for (const name of ['a', 'a.b_c-d', 'a'.repeat(63)]) t.equal(loaded(t, named(`"${name}"`)).node.name, name);
  const { name } = configShape('/').node;
  t.equal(name.safeParse(undefined).data, hostname());
});

t.test(
  'sessions_max is divided over the workers of all serving processes, at least one for each',
  async (t) => {
    const serving = '[serving]\nprocesses = 3\n';
    const given = (lines: string) => `${minimal}\n${lines}\n${serving}`;
    t.equal(loaded(t, given('sessions_max = 11')).hsm[0]?.sessionsMax, 3);
    t.equal(loaded(t, given('sessions_max = 11\nworkers = 3')).hsm[0]?.sessionsMax, 1);
    t.equal(loaded(t, given('sessions_max = 5000')).hsm[0]?.sessionsMax, 256, 'as many as a worker may have');
    t.equal(
      refusal(t, given('sessions_max = 11\nworkers = 4')),
      '[[hsm]] sessions_max must be at least 12: each worker of each serving process has a session',
    );
  },
);

t.test('unknown keys are named with the nearest known one', async (t) => {
  const cases: readonly [string, string][] = [
    ['[xks]\nlisen = "1.2.3.4:443"', 'unknown key "lisen" in [xks]: did you mean "listen"?'],
    [
      '[xks]\nrequest-deadline = 5',
      'unknown key "request-deadline" in [xks]: did you mean "request_deadline_ms"?',
    ],
    [
      '[cluster]\ntls_certificate = "c"',
      'unknown key "tls_certificate" in [cluster]: did you mean [xks] tls_certificate?',
    ],
    ['[severing]\n', 'unknown key or section "severing": did you mean "serving"?'],
    [
      '[xks]\ndrain_seconds = 5',
      'unknown key "drain_seconds" in [xks]: did you mean [serving] drain_seconds?',
    ],
    ['[log]\nzzz = 5', 'unknown key "zzz" in [log]; known are level, trace_pkcs11'],
    [
      '[[hsm]]\nuri = "pkcs11:token=a"\npins = 5',
      'unknown key "pins" in [[hsm]]; known are uri, init_args, profile, workers, sessions_max',
    ],
    [
      '[[hsm]]\nuri = "pkcs11:token=a"\nsessions = 16',
      'unknown key "sessions" in [[hsm]]: sessions are opened as the token needs them now; leave it out, or bound those of the whole node by "sessions_max"',
    ],
  ];
  for (const [content, expected] of cases) t.ok(refusal(t, content).includes(expected), expected);
  const hsm = '[[hsm]]\nuri = "pkcs11:token=a?module-path=/m&pin-source=file:/p"\n';
  t.equal(
    refusal(t, `[xsk]\ntls_certificate = "c"\n${hsm}`),
    'unknown key or section "xsk": did you mean "xks"?',
    'and is not missing as well',
  );
  t.equal(
    refusal(t, `[xks]\ntls_certificate = "c"\ntls_privat_key = "k"\n${hsm}`),
    'unknown key "tls_privat_key" in [xks]: did you mean "tls_private_key"?',
  );
});

t.test('wrong types and ranges say what is wanted', async (t) => {
  const cases: readonly [string, string][] = [
    ['', '[xks] is missing'],
    ['[xks]\ntls_certificate = "c"', '[xks] tls_private_key is missing'],
    [
      '[xks]\nrequest_deadline_ms = 5',
      '[xks] request_deadline_ms must be a whole number from 20 to 10000, not 5',
    ],
    [
      '[xks]\nrequest_deadline_ms = "150"',
      '[xks] request_deadline_ms must be a whole number from 20 to 10000, not "150"',
    ],
    [
      '[xks]\nconnections_max = 1.5',
      '[xks] connections_max must be a whole number from 1 to 100000, not 1.5',
    ],
    ['[xks]\nlisten = "localhost:443"', '[xks] listen must be "ADDRESS:PORT" with an IPv4 address'],
    ['[xks]\nlisten = "::1:443"', '[xks] listen must be "ADDRESS:PORT" with an IPv4 address'],
    ['[xks]\nlisten = "0.0.0.0:65536"', '[xks] listen must be "ADDRESS:PORT" with an IPv4 address'],
    ['[xks]\nlisten = 443', '[xks] listen must be "ADDRESS:PORT", not 443'],
    ['[node]\nname = "a b"', '[node] name must be 1 to 63 letters'],
    ['[log]\nlevel = "verbose"', '[log] level must be "debug", "info", "warn" or "error", not "verbose"'],
    ['[hsm]\nuri = "pkcs11:token=a"', '[[hsm]]: must be written [[hsm]], one for each token'],
    ['[cluster]\n', '[cluster] advertise is missing'],
    ['[cluster]\nadvertise = "xks-1"', '[cluster] advertise must be "HOST:PORT" with a DNS name'],
    ['[cluster]\nadvertise = "xks-1:0"', '[cluster] advertise must be "HOST:PORT" with a DNS name'],
    ['[cluster]\nadvertise = "::1:7443"', '[cluster] advertise must be "HOST:PORT" with a DNS name'],
    ['[cluster]\nadvertise = "[xks]:7443"', '[cluster] advertise must be "HOST:PORT" with a DNS name'],
    ['[cluster]\nadvertise = 7443', '[cluster] advertise must be "HOST:PORT", not 7443'],
    ['log = 5', '[log]: must be a section, not 5'],
    ['[serving]\nprocesses = nan', '[serving] processes must be a whole number from 1 to 64, not NaN'],
    [
      '[xks]\ntls_certificate = "a\\u0000b"',
      '[xks] tls_certificate must be the path of a PEM file, not "a\\u0000b"',
    ],
    [
      '[xks]\ntls_private_key = "credential:../x"',
      '[xks] tls_private_key must be the path of a PEM file or "credential:NAME" with',
    ],
    [
      '[xks]\ntls_private_key = "credential:"',
      '[xks] tls_private_key must be the path of a PEM file or "credential:NAME" with',
    ],
  ];
  for (const [content, expected] of cases) t.match(refusal(t, content), expected);
  const secret = refusal(t, '[[hsm]]\nuri = "pkcs12:?pin-value=hunter2"');
  t.match(secret, '[[hsm]] uri must be a pkcs11: URI (RFC 7512)');
  t.notMatch(secret, 'hunter2');
});

t.test('settings are checked against each other', async (t) => {
  const long = 'x'.repeat(100);
  const cases: readonly [string, string][] = [
    [minimal.replace('[[hsm]]', 'mtls_ca = "ca.pem"\n[[hsm]]'), 'mtls_ca and mtls_subject go together'],
    [minimal.replace('[[hsm]]', 'mtls_subject = "CN=kms"\n[[hsm]]'), 'mtls_ca and mtls_subject go together'],
    [minimal.slice(0, minimal.indexOf('[[hsm]]')), 'no [[hsm]]'],
    [minimal + '[[hsm]]\nuri = "pkcs11:token=b"\n'.repeat(10), '[[hsm]]: at most 10 [[hsm]] sections'],
    [`[admin]\nsocket = "/run/${long}/a.sock"\n${minimal}`, '[admin] socket is 112 bytes long'],
    [`[node]\nruntime_dir = "/run/${long}"\n${minimal}`, "a unix socket's path has at most 107"],
    [`[health]\nlisten = "127.0.0.1:443"\n${minimal}`, '[xks] listen and [health] listen both take port 443'],
    [
      `[cluster]\nlisten = "0.0.0.0:8080"\nadvertise = "a:1"\nca = "a"\ncertificate = "c"\nprivate_key = "k"\n${minimal}`,
      '[health] listen and [cluster] listen both take port 8080',
    ],
  ];
  for (const [content, expected] of cases) t.match(refusal(t, content), expected);
  t.equal(loaded(t, `${minimal}[[hsm]]\nuri = "pkcs11:token=b"`).hsm.length, 2);
  loaded(t, `[metrics]\nlisten = "127.0.0.1:9000"\n[health]\nlisten = "127.0.0.2:9000"\n${minimal}`);
});

t.test('a file that holds a PIN must not be readable by everyone', async (t) => {
  const withPin = minimal.replace('pin-source=file:/etc/xksd/pin', 'pin-value=hunter2');
  const message = refusal(t, withPin, 0o644);
  t.match(message, /chmod o-rwx .*xksd\.toml/);
  t.notMatch(message, 'hunter2');
  t.ok(loadConfig(write(t, withPin, 0o640)).ok);
  t.ok(loadConfig(write(t, minimal, 0o644)).ok, 'no secret, no objection');
});

t.test('the nearest name', async (t) => {
  t.equal(
    nearestName('keepalive_seconds', ['keep_alive_seconds', 'connection_age_max_seconds']),
    'keep_alive_seconds',
  );
  t.equal(nearestName('Drain-Seconds', ['drain_seconds']), 'drain_seconds');
  t.equal(nearestName('foo', ['listen']), null);
  t.equal(nearestName('x', []), null);
});
