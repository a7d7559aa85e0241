import { renameSync, writeFileSync } from 'node:fs';

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** Writes a file of `export NAME=value` lines for a POSIX shell, readable by its owner only. */
export function writeShellEnvironment(path: string, values: Readonly<Record<string, string>>): void {
  const lines = Object.entries(values).map(([name, value]) => `export ${name}=${quote(value)}`);
  writeAtomically(path, `${lines.join('\n')}\n`, 0o600);
}

/**
 * Writes `xksctl`, the CLI pointed at the demo: `xksctl [--node NAME] …`. Without `--node` it talks to the first node.
 */
export function writeCliWrapper(
  path: string,
  options: { readonly xksctlPath: string; readonly sockets: Readonly<Record<string, string>> },
): void {
  const [first = ''] = Object.keys(options.sockets);
  const cases = Object.entries(options.sockets).map(
    ([name, socket]) => `  ${name}) socket=${quote(socket)} ;;`,
  );
  const script = `#!/bin/sh
# xksctl for the demo's nodes: ${Object.keys(options.sockets).join(', ')}.
node=${quote(first)}
if [ "\${1:-}" = --node ]; then
  node=\${2:?--node needs a name}
  shift 2
fi
case $node in
${cases.join('\n')}
  *) echo "xksctl: no demo node '$node'; there are: ${Object.keys(options.sockets).join(', ')}" >&2; exit 2 ;;
esac
exec ${quote(process.execPath)} ${quote(options.xksctlPath)} --socket "$socket" "$@"
`;
  writeAtomically(path, script, 0o700);
}

/** A reader sees the old file or the new one, never half of one. */
export function writeAtomically(path: string, text: string, mode: number): void {
  const scratch = `${path}.new`;
  writeFileSync(scratch, text, { mode });
  renameSync(scratch, path);
}
