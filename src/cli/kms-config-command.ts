import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CommandRunner } from './command-context.js';
import { CommandFailure, exitCodes } from './command-failure.js';
import { readKmsConfigFile } from './kms-config-file.js';
import { type StaleOption, staleOption } from './stale-option.js';

const connectivities = ['PUBLIC_ENDPOINT', 'VPC_ENDPOINT_SERVICE'] as const;
type Connectivity = (typeof connectivities)[number];

const exampleEndpoint = 'https://xks.example.com';

interface Options extends StaleOption {
  readonly endpoint?: string;
  readonly connectivity?: Connectivity;
  readonly vpcEndpointServiceName?: string;
  readonly accessKeyId?: string;
  readonly kmsConfig?: string;
}

interface ProxyConfiguration {
  readonly name: string;
  readonly region: string;
  readonly endpoint: string;
  readonly uriPath: string;
  readonly vpcEndpointServiceName: string;
  readonly credential: string;
}

/** KMS takes `https://`, a host name, and no more: port 443, no path. */
function parseEndpoint(text: string): string {
  if (/^https:\/\/(?=.{1,128}$)[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError(
    'KMS takes https:// and a host name: no port (it is 443), no path, no slash at the end.',
  );
}

function parseServiceName(text: string): string {
  if (/^com\.amazonaws\.vpce\.[a-z0-9-]+\.vpce-svc-[0-9a-z]+$/.test(text)) return text;
  throw new InvalidArgumentError(
    'A service name looks like com.amazonaws.vpce.us-east-1.vpce-svc-0123456789abcdef0.',
  );
}

/** One word for a POSIX shell. */
const quote = (word: string): string =>
  /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;

/**
 * Where the AWS CLI reads the credential: a file that only the shell opens. So the secret is in no history, no argument
 * list and no environment.
 */
function credentialSource(accessKeyId: string, kmsConfigFile: string | undefined): string {
  return kmsConfigFile === undefined
    ? `file://<(printf '{"AccessKeyId":"%s","RawSecretAccessKey":"%s"}' ${quote(accessKeyId)} "$RAW_SECRET_ACCESS_KEY")`
    : `file://<(jq .XksProxyAuthenticationCredential ${quote(kmsConfigFile)})`;
}

/** The command, an option a line. `credential` is for the shell to expand, the rest are words. */
function shellCommand(connectivity: Connectivity, proxy: ProxyConfiguration): string {
  const words = (...pair: readonly string[]): string => pair.map(quote).join(' ');
  const lines = [
    'aws kms create-custom-key-store',
    words('--region', proxy.region),
    words('--custom-key-store-name', proxy.name),
    '--custom-key-store-type EXTERNAL_KEY_STORE',
    words('--xks-proxy-uri-endpoint', proxy.endpoint),
    words('--xks-proxy-uri-path', proxy.uriPath),
    words('--xks-proxy-connectivity', connectivity),
  ];
  if (connectivity === 'VPC_ENDPOINT_SERVICE') {
    lines.push(words('--xks-proxy-vpc-endpoint-service-name', proxy.vpcEndpointServiceName));
  }
  lines.push(`--xks-proxy-authentication-credential ${proxy.credential}`);
  return lines.join(' \\\n  ');
}

const titles: { readonly [C in Connectivity]: string } = {
  PUBLIC_ENDPOINT: '# KMS reaches the proxy over the Internet:',
  VPC_ENDPOINT_SERVICE:
    '# KMS reaches the proxy through a VPC endpoint service; the endpoint is its private DNS name:',
};

export function addKmsConfigCommand(program: Command, run: CommandRunner): void {
  program
    .command('kms-config')
    .description('print the `aws kms create-custom-key-store` command for a key store, for bash')
    .argument('<keystore>')
    .option('--endpoint <url>', `where KMS reaches the proxy, e.g. ${exampleEndpoint}`, parseEndpoint)
    .addOption(new Option('--connectivity <kind>', 'only this kind (default: both)').choices(connectivities))
    .option('--vpc-endpoint-service-name <name>', 'com.amazonaws.vpce.REGION.vpce-svc-…', parseServiceName)
    .option('--access-key-id <id>', 'the credential to give to KMS (default: the newest)')
    .option(
      '--kms-config <file>',
      'read the credential from this file, as `credential create --kms-config` wrote it',
    )
    .addOption(staleOption())
    .action((keyStore: string, options: Options) =>
      run(async ({ client, output }) => {
        if (options.vpcEndpointServiceName !== undefined && options.connectivity === 'PUBLIC_ENDPOINT') {
          const message = '--vpc-endpoint-service-name does not go with --connectivity PUBLIC_ENDPOINT.';
          throw new CommandFailure('usage', message, exitCodes.usage);
        }
        const answer = await client().call('keystore.show', {
          name: keyStore,
          ...(options.stale === undefined ? {} : { stale: options.stale }),
        });
        const wantedId =
          options.kmsConfig === undefined
            ? options.accessKeyId
            : credentialOfFile(options.kmsConfig, answer.keyStore, options.accessKeyId);
        const accessKeyId = chooseCredential(keyStore, answer.credentials, wantedId);
        const region = answer.keyStore.regions[0] ?? 'REGION';
        const proxy = {
          name: keyStore,
          region,
          endpoint: options.endpoint ?? exampleEndpoint,
          uriPath: answer.keyStore.uriPath,
          vpcEndpointServiceName:
            options.vpcEndpointServiceName ?? `com.amazonaws.vpce.${region}.vpce-svc-EXAMPLE`,
          credential: credentialSource(accessKeyId, options.kmsConfig),
        };
        const wanted = options.connectivity === undefined ? connectivities : [options.connectivity];
        const commands = wanted.map((connectivity) => ({
          connectivity,
          command: shellCommand(connectivity, proxy),
        }));
        const prompt = `read -rsp 'Secret access key of ${accessKeyId}: ' RAW_SECRET_ACCESS_KEY; echo`;
        const asks = options.kmsConfig === undefined;
        output.data(
          {
            keyStore,
            uriPath: proxy.uriPath,
            accessKeyId,
            before: asks ? prompt : null,
            commands,
            reading: answer.reading,
          },
          () =>
            [
              ...(asks ? [`# The secret stays out of your history and of argument lists:\n${prompt}`] : []),
              ...commands.map(({ connectivity, command }) => `${titles[connectivity]}\n${command}`),
            ].join('\n\n'),
        );
        if (options.endpoint === undefined) {
          output.message(
            `${exampleEndpoint} stands for your own: say it with --endpoint. KMS calls port 443.`,
          );
        }
        if (wanted.includes('VPC_ENDPOINT_SERVICE') && options.vpcEndpointServiceName === undefined) {
          output.message('vpce-svc-EXAMPLE stands for your own: say it with --vpc-endpoint-service-name.');
        }
        return exitCodes.ok;
      }),
    );
}

/** The credential in a proxy configuration file, which must be this key store's. */
function credentialOfFile(
  file: string,
  keyStore: { readonly name: string; readonly uriPath: string },
  wanted: string | undefined,
): string {
  const { uriPath, accessKeyId } = readKmsConfigFile(file);
  if (uriPath !== keyStore.uriPath) {
    throw new CommandFailure(
      'invalid',
      `${file} is of the key store at ${uriPath}; ${keyStore.name} is at ${keyStore.uriPath}.`,
    );
  }
  if (wanted !== undefined && wanted !== accessKeyId) {
    throw new CommandFailure('invalid', `${file} holds the credential ${accessKeyId}, not ${wanted}.`);
  }
  return accessKeyId;
}

function chooseCredential(
  keyStore: string,
  credentials: readonly { readonly accessKeyId: string; readonly createdAtMs: number }[],
  wanted: string | undefined,
): string {
  if (wanted !== undefined) {
    if (credentials.some(({ accessKeyId }) => accessKeyId === wanted)) return wanted;
    throw new CommandFailure(
      'not-found',
      `key store "${keyStore}" has no credential ${wanted} (xksctl credential list ${keyStore})`,
    );
  }
  const [newest] = [...credentials].sort((left, right) => right.createdAtMs - left.createdAtMs);
  if (newest !== undefined) return newest.accessKeyId;
  throw new CommandFailure(
    'not-found',
    `key store "${keyStore}" has no credential yet: create one with \`xksctl credential create ${keyStore}\`.`,
  );
}
