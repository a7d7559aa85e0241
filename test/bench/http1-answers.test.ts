import t from 'tap';
import { type Answer, Http1Answers } from '../../bench/driver/http1-answers.js';

const stream = Buffer.from(
  'HTTP/1.1 100 Continue\r\n\r\n' +
    'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}' +
    'HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n' +
    'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: b\r\n\r\n' +
    'HTTP/1.1 204 No Content\r\n\r\n' +
    'HTTP/1.1 400 Bad Request\r\nConnection: close\r\ncontent-length: 0\r\n\r\n',
  'latin1',
);
const expected = ['200 {"a":1} true', '503 abcde true', '200 x true', '204  true', '400  false'];

const text = ({ status, body, keepAlive }: Answer): string => `${status} ${body.toString()} ${keepAlive}`;

const read = (pieces: readonly Buffer[]): readonly string[] => {
  const answers = new Http1Answers();
  return pieces.flatMap((piece) => {
    const complete = answers.push(piece);
    return typeof complete === 'string' ? [complete] : complete.map(text);
  });
};

t.test('answers are read whole, and in whatever two pieces they arrive', async (t) => {
  t.strictSame(read([stream]), expected);
  for (let at = 0; at <= stream.length; at++) {
    const answers = read([Buffer.from(stream.subarray(0, at)), Buffer.from(stream.subarray(at))]);
    if (answers.join('|') !== expected.join('|')) t.fail(`split at ${at}: ${answers.join('|')}`);
  }
});

t.test('byte by byte', async (t) => {
  t.strictSame(read([...stream].map((byte) => Buffer.of(byte))), expected);
});

t.test('what is no HTTP/1.1 answer is named', async (t) => {
  for (const [bytes, fault] of [
    ['SSH-2.0-x\r\n\r\n', 'no HTTP/1.1 answer'],
    ['HTTP/1.1 200 OK\r\n\r\n', 'an answer without a length'],
    ['HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n', 'a chunk without a size'],
    ['H'.repeat(20_000), 'an endless header section'],
  ] as const) {
    t.strictSame(read([Buffer.from(bytes)]), [fault]);
  }
});
