import { Command } from 'commander';
import t from 'tap';
import { type LoadOptions, loadOptions, type Taken, withLoadOptions } from '../../bench/options.js';

const access = [
  ...['--uri-prefix', '/a/prefix/', '--key', 'k', '--region', 'r', '--access-key-id', 'a'],
  ...['--secret-file', import.meta.filename],
];

/** As `bench` reads them, or `bench sub`, where an option's place matters. Throws what is wrong with them. */
function read(args: readonly string[], taken: Partial<Taken> = {}): LoadOptions {
  let options: LoadOptions | null = null;
  const all = { duration: 60, modes: true, proxy: true, out: true };
  const program = new Command('bench')
    .enablePositionalOptions()
    .configureOutput({ writeErr: () => {} })
    .exitOverride();
  const action = (_flags: unknown, command: Command): void => {
    options = loadOptions(command);
  };
  withLoadOptions(program, all).action(action);
  withLoadOptions(program.command('sub'), { ...all, ...taken }).action(action);
  program.parse(args, { from: 'user' });
  if (options === null) throw new Error('nothing was read');
  return options;
}

t.test('what is not said has its default', async (t) => {
  t.match(read([]), {
    target: { kind: 'own', nodes: 1, servingProcesses: 2, sessions: null, tokenDelayMs: 0, profile: false },
    traffic: { http: '1.1', connections: 32, streams: 1, encryptShare: 0.5 },
    mode: { kind: 'open' },
    rate: 1_800,
    seconds: 60,
    warmUpSeconds: 5,
  });
  t.match(read(['sub'], { duration: 5, modes: false, proxy: false, out: false }), {
    target: { kind: 'own', nodes: 1, servingProcesses: 2, profile: false },
    mode: { kind: 'open' },
    seconds: 5,
    outDirectory: null,
  });
  t.match(read(['--writes', '10']), { target: { nodes: 3 } });
  t.match(read(['--token-delay', '5']), { traffic: { connections: 256 } });
});

t.test('another proxy is told by its address and access', async (t) => {
  t.match(read(['--target', 'https://127.0.0.1:1', ...access, '--pid', '7']), {
    target: { kind: 'external', access: { uriPathPrefix: 'a/prefix' }, pids: [7] },
  });
});

t.test('what would have no effect is refused', async (t) => {
  for (const [args, message] of [
    [['--closed', '--find-max'], /exclude each other/],
    [['--streams', '2'], /--streams is for --http 2/],
    [['--target', 'https://127.0.0.1:1', ...access, '--nodes', '3'], /--nodes is for our own nodes/],
    [
      ['--target', 'https://127.0.0.1:1', ...access, '--token-delay', '5'],
      /--token-delay is for our own nodes/,
    ],
    [['--target', 'https://127.0.0.1:1', ...access, '--writes', '5'], /not of a --target/],
    [['--rate', '500', 'sub'], /--rate belongs behind "sub"/],
  ] as const)
    t.throws(() => read(args), { message }, args.join(' '));
  for (const [option, taken] of [
    ['--closed', { modes: false }],
    ['--profile', { modes: false }],
    ['--target', { proxy: false }],
    ['--out', { out: false }],
  ] as const)
    t.throws(() => read(['sub', option, 'x'], taken), { code: 'commander.unknownOption' }, option);
});

t.test('a number that is none is refused', async (t) => {
  for (const args of [
    ['--rate', '0'],
    ['--duration', 'x'],
    ['--connections', '1.5'],
    ['--mix', '0:0'],
  ])
    t.throws(() => read(args), { code: 'commander.invalidArgument' }, args.join(' '));
});
