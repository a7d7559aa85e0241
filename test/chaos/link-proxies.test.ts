import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { LinkProxies } from './link-proxies.js';

type Tap = Pick<typeof t, 'teardown'>;

async function echoPort(t: Tap): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** This process is the child of a "supervisor" as far as the proxies know. */
const proxiesFor = (t: Tap): LinkProxies => {
  const links = new LinkProxies(() => [
    { name: 'us', pid: process.ppid },
    { name: 'echo', pid: 0 },
    { name: 'other', pid: 0 },
  ]);
  t.teardown(() => links.close());
  return links;
};

interface Conversation {
  heard(): string;
  say(text: string): void;
  /** Resolves when all of it has come back. */
  until(text: string): Promise<void>;
}

async function talkTo(t: Tap, address: string): Promise<Conversation> {
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
  t.teardown(() => socket.destroy());
  socket.on('error', () => {});
  let heard = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  await once(socket, 'connect');
  return {
    heard: () => heard,
    say: (text) => void socket.write(text),
    until: async (text) => {
      while (!heard.includes(text)) await once(socket, 'data');
    },
  };
}

t.test('one direction is cut, and nothing is lost', async (t) => {
  const links = proxiesFor(t);
  const port = await echoPort(t);
  const cut = await talkTo(t, await links.listen('echo', port));
  const open = await talkTo(t, await links.listen('other', port));
  const roundTrip = async (text: string): Promise<void> => {
    open.say(text);
    await open.until(text);
  };
  cut.say('one ');
  await cut.until('one ');

  links.cut('us', 'echo');
  cut.say('two ');
  for (let turn = 0; turn < 5; turn += 1) await roundTrip(`${turn};`);
  t.equal(cut.heard(), 'one ', 'what is said is not heard');
  links.heal();
  await cut.until('two ');

  links.cut('echo', 'us');
  cut.say('three ');
  for (let turn = 5; turn < 10; turn += 1) await roundTrip(`${turn};`);
  t.equal(cut.heard(), 'one two ', 'what is answered is not heard');
  links.heal();
  await cut.until('three ');
  t.equal(cut.heard(), 'one two three ');
});

t.test('groups: who is in both bridges them', async (t) => {
  const links = proxiesFor(t);
  const port = await echoPort(t);
  const echo = await talkTo(t, await links.listen('echo', port));
  const other = await talkTo(t, await links.listen('other', port));
  links.partition(['us', 'other'], ['other', 'echo']);
  echo.say('lost');
  other.say('heard');
  await other.until('heard');
  t.equal(echo.heard(), '');
  links.isolate('us');
  links.heal();
  await echo.until('lost');
});

t.test('a connection from nobody known is closed', async (t) => {
  const links = new LinkProxies(() => [{ name: 'us', pid: 0 }]);
  t.teardown(() => links.close());
  const address = await links.listen('echo', await echoPort(t));
  const socket = connect(Number(address.split(':')[1]), '127.0.0.1');
  socket.on('error', () => {});
  await once(socket, 'close');
  t.pass('closed');
});
