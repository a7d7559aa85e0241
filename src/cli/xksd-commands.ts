import { Command, CommanderError } from 'commander';
import { systemClock } from '../base/clock.js';
import { loadConfig } from '../ops/config.js';
import { loadTlsFiles } from '../ops/tls-files.js';
import { softwareVersion } from '../ops/version.js';
import { dataDirectoryProblem } from '../replica/open-data-directory.js';
import { runSupervisor } from '../supervisor/main.js';

/** 2 for whatever a person must put right first: the command line, the configuration, the TLS files. */
const usageExitCode = 2;

/** @returns the exit code. `xksdPath`: what the supervisor starts its children with. */
export async function runXksdCommand(argv: readonly string[], xksdPath: string): Promise<number> {
  let exitCode = 0;
  const program = new Command('xksd')
    .description('AWS KMS external key store proxy')
    .version(softwareVersion())
    .exitOverride()
    .addHelpText('after', '\nxksctl administers a running node.');
  const configOption = ['--config <file>', 'the configuration file', '/etc/xksd/xksd.toml'] as const;

  program
    .command('run')
    .description('run a node until SIGTERM or SIGINT, which drain it')
    .option(...configOption)
    .action(async ({ config }: { readonly config: string }) => {
      exitCode = await runSupervisor({
        configPath: config,
        obstacle: dataDirectoryProblem,
        childCommand: (role) => [process.execPath, ...process.execArgv, xksdPath, role],
      });
    });

  program
    .command('config')
    .description('work with the configuration file')
    .command('check')
    .description('say what is wrong with the configuration and its TLS files')
    .option(...configOption)
    .action(({ config }: { readonly config: string }) => {
      exitCode = checkConfig(config);
    });

  try {
    await program.parseAsync([...argv]);
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    // Help and version are thrown too, with exit code 0.
    return thrown.exitCode === 0 ? 0 : usageExitCode;
  }
  return exitCode;
}

function checkConfig(path: string): number {
  const refuse = (message: string): number => {
    process.stderr.write(`xksd: ${message}\n`);
    return usageExitCode;
  };
  const config = loadConfig(path);
  if (!config.ok) return refuse(config.error.message);
  const { tlsCertificate, tlsPrivateKey, mtls } = config.value.xks;
  const nowMs = systemClock.wallMs();
  const tls = loadTlsFiles({ certificate: tlsCertificate, privateKey: tlsPrivateKey, mtls, nowMs });
  if (!tls.ok) return refuse(tls.error);
  const expiry = new Date(tls.value.notAfterMs).toISOString();
  process.stdout.write(
    `${path}: good; the certificate of ${tls.value.subjectNames.join(', ')} expires ${expiry}\n`,
  );
  return 0;
}
