import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspect } from 'node:util';
import t, { type Test } from 'tap';
import { Pin, pinBytesMax, readPin } from '../../src/hsm/pin.js';

function fileWith(t: Test, content: string | Buffer, mode = 0o600): string {
  const path = join(t.testdir(), 'pin');
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}

const read = async (path: string): Promise<string> => {
  const pin = await readPin({ kind: 'file', path }, null);
  return pin.ok ? pin.value.reveal() : `error: ${pin.error}`;
};

const contents: readonly (readonly [string, string, string])[] = [
  ['as it is', '1234', '1234'],
  ['without the newline at its end', '1234\n', '1234'],
  ['without the CRLF at its end', '1234\r\n', '1234'],
  ['with its blanks', ' 12 34 ', ' 12 34 '],
  ['beyond ASCII', 'pässwört\n', 'pässwört'],
];
for (const [how, content, pin] of contents) {
  t.test(`the PIN is read ${how}`, async (t) => {
    t.equal(await read(fileWith(t, content)), pin);
  });
}

const refused: readonly (readonly [string, string | Buffer, RegExp])[] = [
  ['empty', '', /is empty/],
  ['only a newline', '\n', /is empty/],
  ['two lines', 'hungry\nhungry\n', /more than a PIN/],
  ['a NUL', 'hun\0gry', /more than a PIN/],
  ['not UTF-8', Buffer.from([0x68, 0x75, 0xff]), /not UTF-8/],
  ['too long', 'h'.repeat(pinBytesMax + 1), /more than a PIN/],
];
for (const [what, content, message] of refused) {
  t.test(`a PIN file is refused: ${what}`, async (t) => {
    const answer = await read(fileWith(t, content));
    t.match(answer, message);
    t.notMatch(answer, /hun|gry|hhh/, 'and its content not repeated');
  });
}

t.test('a PIN file that every user may read is refused with the command that cures it', async (t) => {
  const path = fileWith(t, '1234', 0o644);
  const message = `the PIN file ${path} is open to every user of this host; run: chmod o-rwx ${path}`;
  t.equal(await read(path), `error: ${message}`);
  chmodSync(path, 0o640);
  t.equal(await read(path), '1234', 'the group may');
});

t.test('a PIN file that is not there, or a directory', async (t) => {
  const directory = t.testdir();
  t.match(await read(join(directory, 'none')), /none does not exist/);
  mkdirSync(join(directory, 'sub'), { mode: 0o700 });
  t.match(await read(join(directory, 'sub')), /not a regular file/);
});

t.test('a systemd credential is a file in $CREDENTIALS_DIRECTORY', async (t) => {
  const path = fileWith(t, '1234\n', 0o400);
  const source = { kind: 'credential', name: 'pin' } as const;
  const pin = await readPin(source, join(path, '..'));
  t.equal(pin.ok && pin.value.reveal(), '1234');
  t.match(await readPin(source, null), { ok: false, error: /LoadCredential=pin:/ });
});

t.test('X-L2: a PIN prints as [PIN]', async (t) => {
  const pin = new Pin('hunter2');
  t.strictSame(
    [`${pin}`, JSON.stringify({ pin }), inspect({ pin }), Object.keys(pin)],
    ['[PIN]', '{"pin":"[PIN]"}', '{ pin: [PIN] }', []],
  );
});
