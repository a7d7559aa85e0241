import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { createLogger } from '../../src/ops/logging.js';
import { redact } from '../../src/ops/redaction.js';

const loggingUrl = new URL('../../src/ops/logging.js', import.meta.url).href;

type Line = Readonly<Record<string, unknown>>;
const parseLines = (text: string): Line[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line);

/** Logs to a file with `use`, and returns the lines. */
function logged(
  t: Tap,
  level: 'debug' | 'info',
  use: (logger: ReturnType<typeof createLogger>) => void,
): Line[] {
  const path = join(t.testdir(), 'log');
  const fd = openSync(path, 'w');
  const logger = createLogger({ level, role: 'serving', slot: 2, fd });
  use(logger);
  logger.flush();
  closeSync(fd);
  return parseLines(readFileSync(path, 'utf8'));
}
type Tap = { testdir(): string };

t.test('a line is JSON with time, process, pid, the fields and the message', async (t) => {
  const [first, second, ...rest] = logged(t, 'info', (logger) => {
    logger.debug('not at this level');
    logger.info('request', { requestId: 'r-1', durationMs: 3.5 });
    logger.child({ keyStore: 'payments' }).warn('slow', { error: new RangeError('too far') });
  });
  t.match(first, {
    level: 'info',
    process: 'serving-2',
    pid: process.pid,
    requestId: 'r-1',
    durationMs: 3.5,
  });
  t.match(String(first?.['time']), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  t.equal(first?.['message'], 'request');
  t.match(second, { level: 'warn', keyStore: 'payments', error: { name: 'RangeError', message: 'too far' } });
  t.same(rest, []);
});

t.test('X-L2: what is named like a secret never reaches the log', async (t) => {
  const secret = 'wJalrXUtnFEMI';
  const lines = logged(t, 'debug', (logger) => {
    const fields = {
      pin: secret,
      user_pin: secret,
      secretAccessKey: secret,
      plaintext: Buffer.from(secret),
      headers: { Authorization: `AWS4-HMAC-SHA256 ${secret}` },
      list: [{ clusterSecret: secret, 'private-key': secret }],
      uri: `pkcs11:token=xks?module-path=/x.so&pin-value=${secret}&object=a`,
      cause: new Error(`cannot use pkcs11:?pin-value=${secret}`),
      buffer: Buffer.from(secret),
    };
    logger.error('refused', fields);
    logger.child({ password: secret }).info('child', { tokenLabel: 'xks' });
  });
  t.equal(lines.length, 2);
  const text = JSON.stringify(lines);
  t.notMatch(text, secret);
  t.notMatch(text, Buffer.from(secret).toString('base64'));
  t.match(lines[0], {
    uri: 'pkcs11:token=xks?module-path=/x.so&pin-value=[redacted]&object=a',
    buffer: '[13 bytes]',
  });
  t.match(lines[1], { tokenLabel: 'xks' });
});

t.test('X-L2: every name of a secret is known', async (t) => {
  const names = ['pin', 'userPin', 'so_pin', 'PIN', 'pinValue', 'secret', 'clusterSecret', 'secretAccessKey']
    .concat(['secret-access-key', 'secretKey', 'signingKey', 'privateKey', 'plaintext', 'Plaintext'])
    .concat(['password', 'passphrase', 'Authorization', 'x-authorization']);
  for (const name of names) t.same(redact({ [name]: 'hunter2' }), { [name]: '[redacted]' }, name);
});

t.test('a field cannot pass for what a line says of its own', async (t) => {
  const [line, child] = logged(t, 'info', (logger) => {
    logger.info('real', { message: 'fake', pid: 1, process: 'replica', level: 'error' });
    logger.child({ pid: 1 }).info('real', {});
  });
  t.match(line, {
    message: 'real',
    field_message: 'fake',
    pid: process.pid,
    field_pid: 1,
    process: 'serving-2',
    field_process: 'replica',
  });
  t.match(line, { level: 'info', field_level: 'error' });
  t.match(child, { pid: process.pid, field_pid: 1 });
});

t.test('X-M2: a field of any name is kept', async (t) => {
  const metadata = JSON.parse('{"__proto__":"x","constructor":"y","nested":{"__proto__":"z"}}');
  t.equal(JSON.stringify(redact({ metadata })), JSON.stringify({ metadata }));
});

t.test('redaction leaves ordinary names and bounds depth', async (t) => {
  t.same(redact({ accessKeyId: 'AKIA', key: 'k', pinRefused: true, spent: 1, none: null, pin: null }), {
    accessKeyId: 'AKIA',
    key: 'k',
    pinRefused: true,
    spent: 1,
    none: null,
    pin: null,
  });
  const cyclic: Record<string, unknown> = {};
  cyclic['self'] = cyclic;
  t.match(JSON.stringify(redact(cyclic)), /\[deeper\]/);
});

/** A process that logs into a pipe of ours (a socket, in Node's hands) or a descriptor, on command over IPC. */
function spawnChatty(bufferBytesMax: number, output: 'pipe' | number = 'pipe') {
  const script = `
    import { createLogger } from ${JSON.stringify(loggingUrl)};
    const logger = createLogger({ level: 'info', role: 'serving', slot: 1, bufferBytesMax: ${bufferBytesMax} });
    process.on('message', ({ lines, exit }) => {
      for (let n = 1; n <= (lines ?? 0); n++) logger.info('line', { n, padding: 'x'.repeat(1000) });
      if (exit) { logger.flush(); process.exit(0); }
      // A turn of the loop later, so that the answer shows that the loop goes on.
      setTimeout(() => process.send({ dropped: logger.droppedLines() }), 50);
    });
    process.send('started');`;
  return spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', output, 'inherit', 'ipc'],
  });
}

t.test(
  'a reader that stands still delays nothing; what is dropped is counted and a gap record says so',
  async (t) => {
    const child = spawnChatty(256 * 1024);
    t.teardown(() => child.kill('SIGKILL'));
    if (child.stdout === null) throw new Error('no stdout');
    child.stdout.pause();
    await once(child, 'message');
    child.send({ lines: 2_000 });
    const [{ dropped }] = await once(child, 'message');
    t.ok(dropped > 0 && dropped < 2_000, `${dropped} lines dropped`);

    const seen: Line[] = [];
    const gap = new Promise<Line>((resolve) => {
      createInterface({ input: child.stdout ?? process.stdin }).on('line', (text) => {
        const line = JSON.parse(text) as Line;
        seen.push(line);
        if (line['droppedLines'] !== undefined) resolve(line);
      });
    });
    t.match(await gap, { level: 'warn', process: 'serving-1', droppedLines: dropped });
    t.equal(seen.length, 2_000 - dropped + 1);
    t.same(
      seen.slice(0, -1).map((line) => line['n']),
      seen.slice(0, -1).map((_, index) => index + 1),
      'the oldest lines survive, in order',
    );
    child.send({ lines: 1 });
    await once(child, 'message');
  },
);

t.test('a process with a full log and no reader ends all the same', async (t) => {
  const child = spawnChatty(1024 * 1024);
  t.teardown(() => child.kill('SIGKILL'));
  child.stdout?.pause();
  await once(child, 'message');
  child.send({ lines: 500 });
  await once(child, 'message');
  child.send({ exit: true });
  const [code] = await once(child, 'exit');
  t.equal(code, 0);
});

t.test('flush at exit writes what is buffered', async (t) => {
  const child = spawnChatty(1024 * 1024);
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'message');
  child.send({ lines: 300, exit: true });
  let text = '';
  for await (const chunk of child.stdout ?? []) text += String(chunk);
  t.same(
    parseLines(text).map((line) => line['n']),
    Array.from({ length: 300 }, (_, index) => index + 1),
  );
});

t.test('a pipe is written without waiting either, and without a flag that others would see', async (t) => {
  const path = join(mkdtempSync(join(tmpdir(), 'xksd-')), 'fifo');
  t.teardown(() => rmSync(dirname(path), { recursive: true }));
  execFileSync('mkfifo', [path]);
  // Both ends, so that opening waits for nobody and the pipe fills up with nobody reading.
  const fd = openSync(path, 'r+');
  t.teardown(() => closeSync(fd));
  const child = spawnChatty(256 * 1024, fd);
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'message');
  child.send({ lines: 2_000 });
  const [{ dropped }] = await once(child, 'message');
  t.ok(dropped > 0 && dropped < 2_000, `${dropped} lines dropped`);
  const flags = /^flags:\s+([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
  t.equal(Number.parseInt(flags ?? '', 8) & constants.O_NONBLOCK, 0);
  child.send({ exit: true });
  const [code] = await once(child, 'exit');
  t.equal(code, 0);
});

t.test('a log whose reader is gone loses lines, not the process', async (t) => {
  const child = spawnChatty(256 * 1024);
  t.teardown(() => child.kill('SIGKILL'));
  await once(child, 'message');
  child.stdout?.destroy();
  child.send({ lines: 10 });
  const [{ dropped }] = await once(child, 'message');
  t.equal(dropped, 10);
  child.send({ exit: true });
  const [code] = await once(child, 'exit');
  t.equal(code, 0);
});
