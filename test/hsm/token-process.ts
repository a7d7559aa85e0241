import { systemClock } from '../../src/base/clock.js';
import { silentLogger } from '../../src/base/logger.js';
import { loadNativeBinding } from '../../src/base/native.js';
import { systemRandom } from '../../src/base/random.js';
import { systemTimers } from '../../src/base/timers.js';
import { parsePkcs11Uri } from '../../src/hsm/pkcs11-uri.js';
import { createToken } from '../../src/hsm/token.js';

/**
 * A process with one token: `node token-process.js URI DATA_DIR`. Prints the status after the first attempt, and
 * ends.
 */
const [uri = '', dataDir = ''] = process.argv.slice(2);
const parsed = parsePkcs11Uri(uri);
if (!parsed.ok) throw new Error(parsed.error);
const native = loadNativeBinding();
const token = createToken({
  uri: parsed.value.uri,
  initArgs: '',
  profile: 'auto',
  workers: 1,
  sessionsMax: 1,
  dataDir,
  credentialsDirectory: null,
  tryLockFile: (fd) => native.tryLockFile(fd),
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
  logger: silentLogger,
});
await token.firstAttempt;
process.stdout.write(`${JSON.stringify(token.status())}\n`);
await token.close();
