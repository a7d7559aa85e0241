import { Command, CommanderError } from 'commander';
import { systemClock } from '../base/clock.js';
import { type Config, loadConfig } from '../ops/config.js';
import { loadClusterTlsFiles, loadTlsFiles } from '../ops/tls-files.js';
import { softwareVersion } from '../ops/version.js';
import { dataDirectoryProblem } from '../replica/open-data-directory.js';
import { type ConfigFindings, checkHsmConfig } from '../serving/hsm-config-check.js';
import { runSupervisor } from '../supervisor/main.js';
import { exitCodes, usageFailure } from './command-failure.js';
import { checkDataDirectory } from './data-directory-check.js';
import { servingNodeOptions } from './serving-node-options.js';

/** @returns the exit code. `xksdPath`: what the supervisor starts its children with. */
export async function runXksdCommand(argv: readonly string[], xksdPath: string): Promise<number> {
  let exitCode: number = exitCodes.ok;
  const program = new Command('xksd')
    .description('AWS KMS external key store proxy')
    .version(softwareVersion())
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .addHelpText('after', '\nxksctl administers a running node.');
  const configOption = ['--config <file>', 'the configuration file', '/etc/xksd/xksd.toml'] as const;

  program
    .command('run')
    .description('run a node until SIGTERM or SIGINT, which drain it')
    .option(...configOption)
    .option(
      '--trace-pkcs11',
      'log every PKCS#11 call of the serving processes, without data or PIN ([log] trace_pkcs11)',
      false,
    )
    .action(async ({ config, tracePkcs11 }: { readonly config: string; readonly tracePkcs11: boolean }) => {
      exitCode = await runSupervisor({
        configPath: config,
        tracePkcs11,
        obstacle: dataDirectoryProblem,
        childCommand: (role) => [
          process.execPath,
          ...(role === 'serving' ? servingNodeOptions : []),
          ...process.execArgv,
          xksdPath,
          role,
        ],
      });
    });

  program
    .command('config')
    .description('work with the configuration file')
    .command('check')
    .description('say what is wrong with the configuration, the files that it names and the data directory')
    .option(...configOption)
    .action(async ({ config }: { readonly config: string }) => {
      exitCode = await checkConfig(config);
    });

  try {
    await program.parseAsync([...argv]);
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    const failure = usageFailure(thrown);
    if (failure !== null) process.stderr.write(`xksd: ${failure.message}\n`);
    // Help and version are thrown too, with exit code 0.
    return thrown.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
  return exitCode;
}

async function checkConfig(path: string): Promise<number> {
  const config = loadConfig(path);
  if (!config.ok) {
    process.stderr.write(`xksd: ${config.error.message}\n`);
    return exitCodes.usage;
  }
  const credentialsDirectory = process.env['CREDENTIALS_DIRECTORY'] ?? null;
  const found = [
    checkDataDirectory(config.value.node.dataDir),
    checkTls(config.value, credentialsDirectory),
    checkClusterTls(config.value, credentialsDirectory),
    await checkHsmConfig(config.value, credentialsDirectory),
  ];
  const problems = found.flatMap((findings) => findings.problems);
  const notes = found.flatMap((findings) => findings.notes);
  for (const problem of problems) process.stderr.write(`xksd: configuration ${path}: ${problem}\n`);
  for (const note of notes) process.stdout.write(`${path}: ${note}\n`);
  if (problems.length > 0) return exitCodes.usage;
  process.stdout.write(`${path}: good\n`);
  return exitCodes.ok;
}

const onlyTheServiceHas = (setting: string, credential: string): ConfigFindings => ({
  problems: [],
  notes: [
    `${setting} is the systemd ${credential.replace(':', ' ')}, which only the service has; it and the certificate were not checked`,
  ],
});

const isOutOfReach = (key: string, credentialsDirectory: string | null): boolean =>
  key.startsWith('credential:') && credentialsDirectory === null;

function checkClusterTls({ cluster, node }: Config, credentialsDirectory: string | null): ConfigFindings {
  if (cluster === null) return { problems: [], notes: [] };
  if (isOutOfReach(cluster.privateKey, credentialsDirectory)) {
    return onlyTheServiceHas('[cluster] private_key', cluster.privateKey);
  }
  const files = loadClusterTlsFiles({ ...cluster, nodeName: node.name, nowMs: systemClock.wallMs() });
  if (!files.ok) return { problems: [files.error], notes: [] };
  const expiry = new Date(files.value.notAfterMs).toISOString();
  return { problems: [], notes: [`the cluster certificate of ${node.name} expires ${expiry}`] };
}

function checkTls({ xks }: Config, credentialsDirectory: string | null): ConfigFindings {
  const { tlsCertificate, tlsPrivateKey, mtls } = xks;
  if (isOutOfReach(tlsPrivateKey, credentialsDirectory)) {
    return onlyTheServiceHas('[xks] tls_private_key', tlsPrivateKey);
  }
  const nowMs = systemClock.wallMs();
  const tls = loadTlsFiles({ certificate: tlsCertificate, privateKey: tlsPrivateKey, mtls, nowMs });
  if (!tls.ok) return { problems: [tls.error], notes: [] };
  const expiry = new Date(tls.value.notAfterMs).toISOString();
  const note = `the certificate of ${tls.value.subjectNames.join(', ')} expires ${expiry}`;
  return { problems: [], notes: [note] };
}
