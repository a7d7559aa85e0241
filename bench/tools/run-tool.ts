import { spawn } from 'node:child_process';

/**
 * Runs a program to its end, its words to ours, and what it prints kept if asked for. Rejects when it is not there. It
 * ends with this process: a load that nobody waits for would go on.
 */
export function runTool(
  program: string,
  args: readonly string[],
  options: { readonly environment?: Readonly<Record<string, string>>; readonly keepOutput: boolean },
): Promise<{ readonly status: number; readonly output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', options.keepOutput ? 'pipe' : 'inherit', 'inherit'],
      env: { ...process.env, ...options.environment },
    });
    const kill = (): void => void child.kill('SIGKILL');
    process.once('exit', kill);
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      process.off('exit', kill);
      resolve({ status: code ?? 1, output });
    });
  });
}
